//! Line charts as SVG, legible on light and on dark backgrounds.

use std::fmt::Write as _;

/// Size of the picture and of what lies around the plotting area, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;

/// Text and axes: a grey with a contrast above 4 to white as well as to near-black.
const INK: &str = "#7a7a7a";

/// Lines, in the order in which they are named: of medium lightness, told apart by the colour-blind (after Okabe and Ito).
const COLOURS: [&str; 6] = ["#0c8ed0", "#d9730d", "#0f9d76", "#c45a9c", "#a08600", "#8b6bd9"];

/// What a line is drawn in when it is not solid, so that colours are not all that tells lines apart.
const DASHES: [&str; 3] = ["", "7 3", "2 3"];

/// A diagram with lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What is shown.
    pub title: String,
    /// Of the horizontal axis.
    pub x: Axis,
    /// Of the vertical axis.
    pub y: Axis,
    /// What is drawn, in the order of the legend.
    pub lines: Vec<Line>,
}

/// One axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// What it counts, with its unit.
    pub label: String,
    /// How it counts.
    pub scale: Scale,
}

/// How an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From nothing in equal steps.
    Linear,
    /// In equal ratios; values that are not positive cannot be shown.
    Log,
}

/// One line of a diagram.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// The part of an axis that is shown, and where it is marked.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    scale: Scale,
    ticks: Vec<f64>,
}

impl Chart {
    /// The picture. Points that an axis cannot show are left out.
    pub fn to_svg(&self) -> String {
        let shown = |(x, y): &(f64, f64)| self.x.scale.shows(*x) && self.y.scale.shows(*y);
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|point| shown(point));
        let across = Span::of(self.x.scale, points().map(|point| point.0));
        let up = Span::of(self.y.scale, points().map(|point| point.1));
        let at_x = |x| LEFT + across.share(x) * (WIDTH - LEFT - RIGHT);
        let at_y = |y| HEIGHT - BOTTOM - up.share(y) * (HEIGHT - TOP - BOTTOM);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n"
        );
        text(&mut svg, (LEFT, 24.0), "font-size=\"15\" font-weight=\"bold\"", &self.title);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in &across.ticks {
            rule(&mut svg, (at_x(*tick), TOP), (at_x(*tick), bottom));
            text(&mut svg, (at_x(*tick), bottom + 18.0), "text-anchor=\"middle\"", &short(*tick));
        }
        for tick in &up.ticks {
            rule(&mut svg, (LEFT, at_y(*tick)), (right, at_y(*tick)));
            text(&mut svg, (LEFT - 8.0, at_y(*tick) + 4.0), "text-anchor=\"end\"", &short(*tick));
        }
        let middle = (LEFT + right) / 2.0;
        text(&mut svg, (middle, HEIGHT - 14.0), "text-anchor=\"middle\"", &self.x.label);
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 18 {})\"", (TOP + bottom) / 2.0);
        text(&mut svg, (18.0, (TOP + bottom) / 2.0), &turned, &self.y.label);

        let looks = COLOURS.iter().zip(DASHES.iter().cycle()).cycle();
        for (n, (line, (colour, dash))) in self.lines.iter().zip(looks).enumerate() {
            let points: Vec<(f64, f64)> =
                line.points.iter().filter(|point| shown(point)).map(|(x, y)| (at_x(*x), at_y(*y))).collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let stroke = format!("stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"");
            writeln!(svg, "<polyline fill=\"none\" {stroke} points=\"{}\"/>", path.join(" ")).ok();
            for (x, y) in points {
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>").ok();
            }
            let height = TOP + 12.0 + 20.0 * n as f64;
            let (from, to) = (right + 14.0, right + 40.0);
            writeln!(svg, "<line x1=\"{from}\" y1=\"{height}\" x2=\"{to}\" y2=\"{height}\" {stroke}/>").ok();
            text(&mut svg, (to + 6.0, height + 4.0), "", &line.name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

impl Scale {
    fn shows(self, value: f64) -> bool {
        value.is_finite() && (self == Self::Linear || value > 0.0)
    }
}

impl Span {
    /// From a round number below all of the values to one above; the values can be shown on the scale.
    fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) =
            values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let ticks = match scale {
            Scale::Linear => {
                let step = round_up(if high > 0.0 { high / 6.0 } else { 0.2 });
                (0..=(high / step).ceil().max(1.0) as u32).map(|n| f64::from(n) * step).collect()
            }
            Scale::Log => {
                let (low, high) = if low <= high { (low, high) } else { (1.0, 10.0) };
                log_ticks(low, high)
            }
        };
        Self { scale, ticks }
    }

    /// Where a value is, between 0 at the first tick and 1 at the last.
    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log10(),
        };
        let [first, .., last] = self.ticks.as_slice() else { return 0.0 };
        (place(value) - place(*first)) / (place(*last) - place(*first))
    }
}

/// Numbers of the sequence 1, 2, 5, 10 … around these two, or powers of ten alone where those would be many.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let steps: &[f64] = if high / low > 200.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all: Vec<f64> =
        decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade))).collect();
    let first = all.iter().rposition(|tick| *tick <= low * 1.000_001).unwrap_or(0);
    let last = all.iter().position(|tick| *tick >= high * 0.999_999).unwrap_or(all.len() - 1);
    // One tick alone would have no extent.
    all[first..=last.max(first + 1)].to_vec()
}

/// The least number of the sequence 1, 2, 5, 10 … that is not less.
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * decade >= value * 0.999_999);
    step.unwrap_or(10.0) * decade
}

/// A number as an axis shows it, such as `20 K`.
fn short(number: f64) -> String {
    let (number, unit) = match number {
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " K"),
        n => (n, ""),
    };
    let digits = format!("{number:.3}");
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

fn rule(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let at = format!("x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"");
    writeln!(svg, "<line {at} stroke=\"{INK}\" stroke-opacity=\"0.3\"/>").ok();
}

fn text(svg: &mut String, (x, y): (f64, f64), how: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {how}>{words}</text>").ok();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chart(scale: Scale, points: Vec<(f64, f64)>) -> Chart {
        let axis = |label: &str| Axis { label: label.into(), scale };
        let line = Line { name: "a < b".into(), points };
        Chart { title: "gets & puts".into(), x: axis("in flight"), y: axis("per second"), lines: vec![line] }
    }

    fn numbers(svg: &str, from: &str) -> Vec<(f64, f64)> {
        let points = svg.split(from).nth(1).and_then(|rest| rest.split('"').next()).expect("there is a line");
        let point = |text: &str| {
            let (x, y) = text.split_once(',').expect("two numbers");
            (x.parse().expect("a number"), y.parse().expect("a number"))
        };
        points.split_whitespace().map(point).collect()
    }

    #[test]
    fn equal_ratios_are_equally_far_apart_on_a_log_scale_and_equal_steps_on_a_linear_one() {
        let points = |scale, values: [f64; 3]| {
            numbers(&chart(scale, values.map(|value| (value, value)).to_vec()).to_svg(), "points=\"")
        };
        let log = points(Scale::Log, [1.0, 10.0, 100.0]);
        assert!((log[1].0 - log[0].0 - (log[2].0 - log[1].0)).abs() < 0.2, "{log:?}");
        let linear = points(Scale::Linear, [10.0, 20.0, 30.0]);
        assert!((linear[0].1 - linear[1].1 - (linear[1].1 - linear[2].1)).abs() < 0.2, "{linear:?}");
        assert!(linear[0].1 > linear[1].1, "more is higher: {linear:?}");
    }

    #[test]
    fn axes_are_marked_with_round_numbers_around_all_points() {
        assert_eq!(
            Span::of(Scale::Linear, [3.0, 27.0].into_iter()).ticks,
            [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
        );
        assert_eq!(Span::of(Scale::Log, [1.0, 32.0].into_iter()).ticks, [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(Span::of(Scale::Log, [800.0, 300_000.0].into_iter()).ticks, [1e2, 1e3, 1e4, 1e5, 1e6]);
        assert_eq!([0.5, 20.0, 2_000.0, 1e6].map(short), ["0.5", "20", "2 K", "1 M"]);
    }

    #[test]
    fn words_cannot_break_the_picture() {
        let svg = chart(Scale::Linear, vec![(1.0, 2.0)]).to_svg();
        assert!(svg.contains(">gets &amp; puts</text>") && svg.contains(">a &lt; b</text>"), "{svg}");
    }

    #[test]
    fn what_a_log_scale_cannot_show_is_left_out() {
        let svg = chart(Scale::Log, vec![(0.0, 5.0), (2.0, 5.0), (3.0, f64::NAN)]).to_svg();
        assert_eq!(numbers(&svg, "points=\"").len(), 1);
        assert!(!chart(Scale::Log, vec![]).to_svg().contains("NaN"));
        assert!(!chart(Scale::Linear, vec![]).to_svg().contains("NaN"));
    }

    proptest! {
        #[test]
        fn every_point_lies_inside_the_plotting_area(
            points in prop::collection::vec((1e-3..1e9_f64, 1e-3..1e9_f64), 1..20),
            log: bool,
        ) {
            let svg = chart(if log { Scale::Log } else { Scale::Linear }, points).to_svg();
            for (x, y) in numbers(&svg, "points=\"") {
                prop_assert!((LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(&x), "{x}");
                prop_assert!((TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&y), "{y}");
            }
        }
    }
}
