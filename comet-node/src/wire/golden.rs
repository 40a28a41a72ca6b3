//! The protocol's bytes, held fast: every message against its golden form, here and in `docs/protocol.md`.

use std::sync::Arc;

use bytes::Bytes;
use comet_routing::{Contact, Key, NodeId};
use comet_runtime::{
    Failure, Refusal,
    dht::{LogLine, LogProof, Usage},
};
use comet_store::{Ownership, Publication, Seal, SealedObject, Version};
use proptest::prelude::*;

use super::*;

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32])
}

fn contact(byte: u8, addr: &str) -> Contact {
    Contact::new(NodeId::from_bytes([byte; 32]), addr.parse().expect("a valid address"))
}

fn ownership() -> Ownership {
    Ownership { public_key: [0xaa; 32], salt: [0xbb; 32], signature: [0xcc; 64] }
}

fn object() -> Object {
    Object {
        key: key(0x11),
        sequence: 7,
        ownership: Some(ownership().into()),
        ttl_seconds: 86_400,
        replicas: 8,
        code: Some(Arc::from("aso.n = 1")),
        publication: None,
        data: Bytes::from_static(&[0x2a]),
    }
}

fn plain_object() -> Object {
    Object { ownership: None, code: None, ..object() }
}

fn published_object() -> Object {
    let publication = Some(Publication { public_key: [0xdd; 32], signature: [0xee; 64] }.into());
    Object { ownership: None, publication, ..object() }
}

fn version() -> Version {
    Version { sequence: 7, hash: [0x22; 32] }
}

/// An answer of an owned key: a plain value, or what handlers made.
fn sealed_got(active: Option<SealedObject>) -> Reply {
    Reply::Got {
        value: Bytes::from_static(&[0x2a]),
        version: version(),
        active: active.is_some(),
        usage: usage(),
        seal: Some(Box::new(Seal { ownership: ownership(), ttl_seconds: 86_400, replicas: 8, active })),
    }
}

fn usage() -> Usage {
    Usage { steps: 1000, memory_bytes: 2048, messages: 1 }
}

fn held() -> Held {
    Held {
        version: version(),
        owner: Some([0xaa; 32]),
        handlers: vec!["onGet".to_owned(), "onTimer".to_owned()],
        code_hash: Some([0x33; 32]),
        age_seconds: 60,
        remaining_seconds: 86_340,
        data_bytes: 1,
        state_bytes: 300,
        replicas: 8,
        active: true,
        usage: usage(),
    }
}

const TRAIL: Trail = Trail { messages: 20, bytes: 65_536, depth: 3 };

fn requests() -> Vec<(Request, &'static str)> {
    let payload = Some(Bytes::from_static(&[0xa2, b'h', b'i']));
    let proof = LogProof { ownership: ownership(), sequence: 1_700_000_000 };
    vec![
        (Request::Ping, "81a470696e6780"),
        (
            Request::FindNode { target: key(0x11), count: 20 },
            "81a466696e6482a174c4201111111111111111111111111111111111111111111111111111111111111111a16e14",
        ),
        (
            Request::Get { key: key(0x11), payload: None, callback: None, trail: TRAIL },
            "81a367657482a16bc4201111111111111111111111111111111111111111111111111111111111111111a2747283\
             a16d14a162ce00010000a16403",
        ),
        (
            Request::Get { key: key(0x11), payload, callback: Some(key(0x44)), trail: TRAIL },
            "81a367657484a16bc4201111111111111111111111111111111111111111111111111111111111111111a170c403\
             a26869a26362c4204444444444444444444444444444444444444444444444444444444444444444a2747283a16d\
             14a162ce00010000a16403",
        ),
        (
            Request::Put { object: plain_object(), trail: TRAIL },
            "81a370757482a16f85a16bc4201111111111111111111111111111111111111111111111111111111111111111a1\
             7307a374746cce00015180a17208a164c4012aa2747283a16d14a162ce00010000a16403",
        ),
        (
            Request::Put { object: object(), trail: TRAIL },
            "81a370757482a16f87a16bc4201111111111111111111111111111111111111111111111111111111111111111a1\
             7307a36f776e83a2706bc420aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa473\
             616c74c420bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba3736967c440cccccc\
             cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\
             cccccccccccccccccccccccccccccca374746cce00015180a17208a163a961736f2e6e203d2031a164c4012aa274\
             7283a16d14a162ce00010000a16403",
        ),
        (
            Request::Put { object: published_object(), trail: TRAIL },
            "81a370757482a16f87a16bc4201111111111111111111111111111111111111111111111111111111111111111a1\
             7307a374746cce00015180a17208a163a961736f2e6e203d2031a370756282a2706bc420dddddddddddddddddddd\
             dddddddddddddddddddddddddddddddddddddddddddda3736967c440eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\
             eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\
             a164c4012aa2747283a16d14a162ce00010000a16403",
        ),
        (
            Request::PutIf { object: plain_object(), expected: None, ticket: 9, trail: TRAIL },
            "81a5707574696683a16f85a16bc42011111111111111111111111111111111111111111111111111111111111111\
             11a17307a374746cce00015180a17208a164c4012aa16e09a2747283a16d14a162ce00010000a16403",
        ),
        (
            Request::PutIf { object: plain_object(), expected: Some(version()), ticket: 9, trail: TRAIL },
            "81a5707574696684a16f85a16bc42011111111111111111111111111111111111111111111111111111111111111\
             11a17307a374746cce00015180a17208a164c4012aa2696682a17307a168c4202222222222222222222222222222\
             222222222222222222222222222222222222a16e09a2747283a16d14a162ce00010000a16403",
        ),
        (
            Request::Claim { object: plain_object(), expected: None, ticket: 9 },
            "81a5636c61696d82a16f85a16bc42011111111111111111111111111111111111111111111111111111111111111\
             11a17307a374746cce00015180a17208a164c4012aa16e09",
        ),
        (
            Request::Claim { object: plain_object(), expected: Some(version()), ticket: 9 },
            "81a5636c61696d83a16f85a16bc42011111111111111111111111111111111111111111111111111111111111111\
             11a17307a374746cce00015180a17208a164c4012aa2696682a17307a168c4202222222222222222222222222222\
             222222222222222222222222222222222222a16e09",
        ),
        (
            Request::Unclaim { key: key(0x11), ticket: 9 },
            "81a7756e636c61696d82a16bc4201111111111111111111111111111111111111111111111111111111111111111\
             a16e09",
        ),
        (
            Request::Replicate {
                object: plain_object(),
                state: Bytes::from_static(&[0x80]),
                age_seconds: 60,
                remaining_seconds: 86_340,
                trail: TRAIL,
            },
            "81a4636f707985a16f85a16bc4201111111111111111111111111111111111111111111111111111111111111111\
             a17307a374746cce00015180a17208a164c4012aa27374c40180a36167653ca46c656674ce00015144a2747283a1\
             6d14a162ce00010000a16403",
        ),
        (
            Request::Delete { key: key(0x11), sequence: 7, ownership: None, trail: TRAIL },
            "81a664656c65746583a16bc4201111111111111111111111111111111111111111111111111111111111111111a1\
             7307a2747283a16d14a162ce00010000a16403",
        ),
        (
            Request::Delete {
                key: key(0x11),
                sequence: 8,
                ownership: Some(ownership().into()),
                trail: TRAIL,
            },
            "81a664656c65746584a16bc4201111111111111111111111111111111111111111111111111111111111111111a1\
             7308a36f776e83a2706bc420aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa473\
             616c74c420bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba3736967c440cccccc\
             cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\
             cccccccccccccccccccccccccccccca2747283a16d14a162ce00010000a16403",
        ),
        (
            Request::Digest { summaries: vec![Summary { key: key(0x11), version: version() }] },
            "81a664696765737481a16c91c4481111111111111111111111111111111111111111111111111111111111111111\
             00000000000000072222222222222222222222222222222222222222222222222222222222222222",
        ),
        (Request::DialBack, "81a86469616c6261636b80"),
        (
            Request::Check { key: key(0x11) },
            "81a5636865636b81a16bc4201111111111111111111111111111111111111111111111111111111111111111",
        ),
        (
            Request::Withdraw { key: key(0x11), version: version() },
            "81a8776974686472617782a16bc42011111111111111111111111111111111111111111111111111111111111111\
             11a376657282a17307a168c4202222222222222222222222222222222222222222222222222222222222222222",
        ),
        (
            Request::Inspect { key: key(0x11) },
            "81a7696e737065637481a16bc4201111111111111111111111111111111111111111111111111111111111111111",
        ),
        (
            Request::Logs { key: key(0x11), proof: None },
            "81a46c6f677381a16bc4201111111111111111111111111111111111111111111111111111111111111111",
        ),
        (
            Request::Logs { key: key(0x11), proof: Some(proof) },
            "81a46c6f677382a16bc4201111111111111111111111111111111111111111111111111111111111111111a36f77\
             6e82a173ce6553f100a16f83a2706bc420aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
             aaaaaaa473616c74c420bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba3736967\
             c440cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\
             cccccccccccccccccccccccccccccccccccccccc",
        ),
    ]
}

fn verdicts() -> Vec<Verdict> {
    let gone = |ownership| Verdict::Gone { sequence: 8, ownership };
    vec![
        Verdict::Same,
        Verdict::Newer,
        Verdict::Older,
        Verdict::Missing,
        Verdict::Left,
        gone(None),
        gone(Some(ownership().into())),
    ]
}

fn answers() -> Vec<(Answer, &'static str)> {
    let text = || "why".to_owned();
    let failed = |failure| Err(Refusal::HandlerFailed { handler: "onGet".to_owned(), failure });
    let contacts = vec![contact(0x55, "192.0.2.1:7400"), contact(0x66, "[2001:db8::1]:7400")];
    let line = |age_ms, failure, text: &str| LogLine { age_ms, failure, text: text.to_owned() };
    vec![
        (
            Ok(Reply::Pong { you: "192.0.2.9:7400".parse().expect("a valid address") }),
            "81a4706f6e6781a3796f75c406c00002091ce8",
        ),
        (
            Ok(Reply::Nodes { contacts }),
            "81a56e6f64657381a16392c4265555555555555555555555555555555555555555555555555555555555555555c0\
             0002011ce8c432666666666666666666666666666666666666666666666666666666666666666620010db8000000\
             0000000000000000011ce8",
        ),
        (
            Ok(Reply::Got {
                value: Bytes::from_static(&[0x2a]),
                version: version(),
                active: true,
                usage: usage(),
                seal: None,
            }),
            "81a3676f7484a176c4012aa376657282a17307a168c4202222222222222222222222222222222222222222222222\
             222222222222222222a161c3a17583a173cd03e8a162cd0800a16d01",
        ),
        (
            Ok(sealed_got(None)),
            "81a3676f7485a176c4012aa376657282a17307a168c4202222222222222222222222222222222222222222222222\
             222222222222222222a161c2a17583a173cd03e8a162cd0800a16d01a47365616c83a36f776e83a2706bc420aaaa\
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa473616c74c420bbbbbbbbbbbbbbbbbb\
             bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba3736967c440cccccccccccccccccccccccccccccccccc\
             cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\
             cca374746cce00015180a17208",
        ),
        (
            Ok(sealed_got(Some(SealedObject { code: [0x33; 32], data: [0x77; 32] }))),
            "81a3676f7485a176c4012aa376657282a17307a168c4202222222222222222222222222222222222222222222222\
             222222222222222222a161c3a17583a173cd03e8a162cd0800a16d01a47365616c84a36f776e83a2706bc420aaaa\
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa473616c74c420bbbbbbbbbbbbbbbbbb\
             bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba3736967c440cccccccccccccccccccccccccccccccccc\
             cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\
             cca374746cce00015180a17208a16f82a26368c42033333333333333333333333333333333333333333333333333\
             33333333333333a26468c4207777777777777777777777777777777777777777777777777777777777777777",
        ),
        (
            Ok(Reply::Stored { version: version(), usage: usage() }),
            "81a673746f72656482a376657282a17307a168c42022222222222222222222222222222222222222222222222222\
             22222222222222a17583a173cd03e8a162cd0800a16d01",
        ),
        (Ok(Reply::Deleted { held: true }), "81a764656c6574656481a168c3"),
        (
            Ok(Reply::Compared { verdicts: verdicts() }),
            "81a8636f6d706172656481a16c97a473616d65a56e65776572a56f6c646572a76d697373696e67a46c65667481a4\
             676f6e6581a1730881a4676f6e6582a17308a36f776e83a2706bc420aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaa473616c74c420bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\
             bbbbbbbbbbbbbba3736967c440cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\
             cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
        ),
        (Ok(Reply::Noted), "81a56e6f74656480"),
        (Ok(Reply::Dialled { reachable: true }), "81a76469616c6c656481a172c3"),
        (
            Ok(Reply::Inspected(held())),
            "81a468656c648ba376657282a17307a168c420222222222222222222222222222222222222222222222222222222\
             2222222222a2706bc420aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2687392\
             a56f6e476574a76f6e54696d6572a26368c420333333333333333333333333333333333333333333333333333333\
             3333333333a36167653ca46c656674ce00015144a2646201a27362cd012ca17208a161c3a17583a173cd03e8a162\
             cd0800a16d01",
        ),
        (
            Ok(Reply::Log { lines: vec![line(1500, false, "hello"), line(20, true, "boom")] }),
            "81a36c6f6781a16c9283a3616765cd05dca166c2a174a568656c6c6f83a361676514a166c3a174a4626f6f6d",
        ),
        (Err(Refusal::NotFound), "81a56572726f7281a96e6f745f666f756e6480"),
        (Err(Refusal::Refused(text())), "81a56572726f7281a772656675736564a3776879"),
        (
            failed(Failure::Steps { limit: 100_000 }),
            "81a56572726f7281a66661696c656482a168a56f6e476574a16681a5737465707381a56c696d6974ce000186a0",
        ),
        (
            failed(Failure::Time { limit_ms: 50 }),
            "81a56572726f7281a66661696c656482a168a56f6e476574a16681a474696d6581a26d7332",
        ),
        (
            failed(Failure::Memory { limit_bytes: 262_144 }),
            "81a56572726f7281a66661696c656482a168a56f6e476574a16681a66d656d6f727981a56279746573ce00040000",
        ),
        (
            failed(Failure::Error(text())),
            "81a56572726f7281a66661696c656482a168a56f6e476574a16681a56572726f72a3776879",
        ),
        (
            failed(Failure::BadReply(text())),
            "81a56572726f7281a66661696c656482a168a56f6e476574a16681a96261645f7265706c79a3776879",
        ),
        (
            failed(Failure::BadState(text())),
            "81a56572726f7281a66661696c656482a168a56f6e476574a16681a96261645f7374617465a3776879",
        ),
        (
            failed(Failure::Deadline { limit_ms: 10_000 }),
            "81a56572726f7281a66661696c656482a168a56f6e476574a16681a8646561646c696e6581a26d73cd2710",
        ),
        (
            failed(Failure::Interrupted),
            "81a56572726f7281a66661696c656482a168a56f6e476574a16681ab696e74657272757074656480",
        ),
        (Err(Refusal::BadCode(text())), "81a56572726f7281a86261645f636f6465a3776879"),
        (Err(Refusal::Overloaded(text())), "81a56572726f7281aa6f7665726c6f61646564a3776879"),
        (
            Err(Refusal::TooLarge { what: text(), size: 65_537, limit: 65_536 }),
            "81a56572726f7281a9746f6f5f6c6172676583a477686174a3776879a473697a65ce00010001a56c696d6974ce00\
             010000",
        ),
        (Err(Refusal::Invalid(text())), "81a56572726f7281a7696e76616c6964a3776879"),
        (Err(Refusal::NotOwner(text())), "81a56572726f7281a96e6f745f6f776e6572a3776879"),
        (Err(Refusal::Stale { held_sequence: 9 }), "81a56572726f7281a57374616c6581a468656c6409"),
        (Err(Refusal::Conflict { held: None }), "81a56572726f7281a8636f6e666c69637480"),
        (
            Err(Refusal::Conflict { held: Some(version()) }),
            "81a56572726f7281a8636f6e666c69637481a468656c6482a17307a168c420222222222222222222222222222222\
             2222222222222222222222222222222222",
        ),
        (Err(Refusal::QuotaExceeded(text())), "81a56572726f7281ae71756f74615f6578636565646564a3776879"),
        (
            Err(Refusal::Spent { what: text(), wait_seconds: 9 }),
            "81a56572726f7281a57370656e7482a477686174a3776879a17309",
        ),
        (Err(Refusal::Elsewhere { nearer: 40 }), "81a56572726f7281a9656c7365776865726581a66e656172657228"),
        (Err(Refusal::Unwritable(text())), "81a56572726f7281aa756e7772697461626c65a3776879"),
        (Err(Refusal::Corrupt(text())), "81a56572726f7281a7636f7272757074a3776879"),
        (
            Err(Refusal::NoQuorum { stored: 2, wanted: 8, quorum: 5, reason: text() }),
            "81a56572726f7281a96e6f5f71756f72756d84a673746f72656402a677616e74656408a671756f72756d05a67265\
             61736f6ea3776879",
        ),
        (Err(Refusal::Timeout { deadline_ms: 5000 }), "81a56572726f7281a774696d656f757481a26d73cd1388"),
        (Err(Refusal::Unreachable(text())), "81a56572726f7281ab756e726561636861626c65a3776879"),
        (Err(Refusal::Denied(text())), "81a56572726f7281a664656e696564a3776879"),
        (Err(Refusal::Unsupported), "81a56572726f7281ab756e737570706f7274656480"),
        (Err(Refusal::Stopping(text())), "81a56572726f7281a873746f7070696e67a3776879"),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("golden bytes are hexadecimal");
    (0..hex.len()).step_by(2).map(digits).collect()
}

#[test]
fn requests_have_their_golden_bytes() {
    for (request, golden) in requests() {
        assert_eq!(hex(&request.encode()), golden, "{request:?}");
        assert_eq!(Request::decode(&bytes(golden)), Ok(request));
    }
}

#[test]
fn answers_have_their_golden_bytes() {
    for (answer, golden) in answers() {
        assert_eq!(hex(&encode_answer(&answer)), golden, "{answer:?}");
        assert_eq!(decode_answer(&bytes(golden)), Ok(answer));
    }
}

#[test]
fn the_document_shows_every_golden_message() {
    let document: String = DOCUMENT.split_whitespace().collect();
    let goldens = requests().into_iter().map(|(_, golden)| golden);
    for golden in goldens.chain(answers().into_iter().map(|(_, golden)| golden)) {
        assert!(document.contains(golden), "docs/protocol.md lacks {golden}");
    }
}

#[test]
fn a_refusal_is_named_by_its_code() {
    for (answer, golden) in answers() {
        let Err(refusal) = answer else { continue };
        let code = match &refusal {
            Refusal::HandlerFailed { failure, .. } => failure.code().replace("handler_", ""),
            _ => refusal.code().to_owned(),
        };
        assert!(golden.contains(&hex(code.as_bytes())), "{refusal:?}");
    }
}

#[test]
fn no_message_survives_a_missing_or_an_additional_byte() {
    for (_, golden) in requests() {
        let frame = bytes(golden);
        for cut in 0..frame.len() {
            assert!(matches!(Request::decode(&frame[..cut]), Err(DecodeError::Malformed(_))));
        }
        let longer = [&frame[..], &[0xc0]].concat();
        assert!(matches!(Request::decode(&longer), Err(DecodeError::Malformed(_))));
    }
}

proptest! {
    #[test]
    fn a_message_with_changed_bytes_never_panics(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let goldens: Vec<_> = requests().into_iter().map(|(_, golden)| golden)
            .chain(answers().into_iter().map(|(_, golden)| golden)).collect();
        let mut frame = bytes(goldens[which.index(goldens.len())]);
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        let _ = Request::decode(&frame);
        let _ = decode_answer(&frame);
    }
}
