//! The condition of a put, and what it is about, as HTTP has them: entity tags (RFC 9110, section 8.8.3 and chapter 13).
//!
//! The tag of an object is its version. That names the put which the object stems from and not the answer: what
//! handlers say may differ from one get to the next, which does no harm since no answer may be cached.

use actix_web::http::header::{self, HeaderMap, HeaderName};
use comet_runtime::dht::Expected;

use super::{Problem, api::VersionText};

/// The entity tag of a version.
pub(super) fn etag(version: &VersionText) -> (HeaderName, String) {
    (header::ETAG, format!("\"{version}\""))
}

/// What the sender of a put expects to replace: `If-Match` names one version, `If-None-Match: *` none.
pub(super) fn expected_of(headers: &HeaderMap) -> Result<Expected, Problem> {
    let refuse = |detail: &str| Problem::bad_request("bad_condition", detail);
    let usable = [header::IF_MATCH, header::IF_NONE_MATCH].map(|name| {
        let mut values = headers.get_all(name);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| ()),
            (Some(_), Some(_)) => Err(()),
        }
    });
    match usable {
        [Ok(None), Ok(None)] => Ok(Expected::Any),
        [Ok(Some(tag)), Ok(None)] => {
            let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let version = version.and_then(VersionText::parse);
            let detail =
                "If-Match wants one version as the ETag of a get has it: \"SEQUENCE-HASH\", quotes included";
            version.map(Expected::Version).ok_or_else(|| refuse(detail))
        }
        [Ok(None), Ok(Some("*"))] => Ok(Expected::Absent),
        [Ok(None), Ok(Some(_))] => Err(refuse("If-None-Match takes * alone: there must be no object yet")),
        _ => Err(refuse("a put takes one If-Match or one If-None-Match")),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use comet_store::Version;

    use super::*;

    fn expected(fields: &[(HeaderName, &str)]) -> Result<Expected, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        expected_of(&headers).map_err(|problem| problem.code)
    }

    #[test]
    fn the_tag_of_an_answer_is_the_condition_of_a_put() {
        let version = Version { sequence: u64::MAX, hash: [0xab; 32] };
        let (_, tag) = etag(&version.into());
        assert_eq!(tag, format!("\"18446744073709551615-{}\"", "ab".repeat(32)));
        assert_eq!(expected(&[(header::IF_MATCH, &tag)]), Ok(Expected::Version(version)));
        assert_eq!(expected(&[(header::IF_NONE_MATCH, "*")]), Ok(Expected::Absent));
        assert_eq!(expected(&[(header::ACCEPT, "*")]), Ok(Expected::Any));
    }

    #[test]
    fn a_condition_that_cannot_be_kept_is_refused_and_never_left_out() {
        let tag = format!("\"7-{}\"", "ab".repeat(32));
        let (weak, list, bare) = (format!("W/{tag}"), format!("{tag}, {tag}"), tag.trim_matches('"'));
        let short = "\"7-abab\"";
        for text in ["*", "", "\"\"", &weak, &list, bare, short, "\"-1-00\""] {
            assert_eq!(expected(&[(header::IF_MATCH, text)]), Err("bad_condition".into()), "{text}");
        }
        assert_eq!(expected(&[(header::IF_NONE_MATCH, &tag)]), Err("bad_condition".into()));
        let both = [(header::IF_MATCH, &*tag), (header::IF_NONE_MATCH, "*")];
        assert_eq!(expected(&both), Err("bad_condition".into()));
        let twice = [(header::IF_MATCH, &*tag), (header::IF_MATCH, &*tag)];
        assert_eq!(expected(&twice), Err("bad_condition".into()));
    }
}
