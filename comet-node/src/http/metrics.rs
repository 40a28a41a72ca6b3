//! Metrics in the Prometheus text format.
//!
//! Label names and values are `&'static str`, so that no key, address or token can become one and the number
//! of series is fixed when the program is compiled.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

/// A metric with all its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name, beginning with `comet_` and ending in its unit; counters end in `_total`.
    pub name: &'static str,
    /// One sentence without a full stop.
    pub help: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// One value per set of labels.
    pub series: Vec<Series>,
}

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Upwards only.
    Counter,
    /// Both ways.
    Gauge,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Label names and values.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The value now.
    pub value: f64,
}

impl Metric {
    /// A counter without labels.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::single(name, help, MetricKind::Counter, value as f64)
    }

    /// A gauge without labels.
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self::single(name, help, MetricKind::Gauge, value)
    }

    fn single(name: &'static str, help: &'static str, kind: MetricKind, value: f64) -> Self {
        Self { name, help, kind, series: vec![Series { labels: Vec::new(), value }] }
    }
}

/// The text that Prometheus scrapes.
pub(super) fn to_text(metrics: &[Metric]) -> String {
    let mut out = String::new();
    for metric in metrics {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        write_line(&mut out, format_args!("# HELP {} {}", metric.name, metric.help));
        write_line(&mut out, format_args!("# TYPE {} {kind}", metric.name));
        for series in &metric.series {
            let labels: Vec<String> =
                series.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            write_line(&mut out, format_args!("{}{labels} {}", metric.name, series.value));
        }
    }
    out
}

fn write_line(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(out, "{line}").ok();
}

/// The routes that requests are counted by.
const ROUTES: [&str; 7] = ["objects", "inspect", "logs", "lookup", "node", "probe", "unknown"];

/// The classes of statuses that requests are counted by.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// How many requests there were, by route and class of status.
#[derive(Debug, Default)]
pub struct RequestCounters([[AtomicU64; CLASSES.len()]; ROUTES.len()]);

impl RequestCounters {
    /// Counts a request by the pattern of its route and the status of its response.
    pub fn count(&self, pattern: Option<&str>, status: u16) {
        let route = match pattern {
            Some("/v1/objects/{key}") => 0,
            Some("/v1/objects/{key}/inspect") => 1,
            Some("/v1/objects/{key}/logs") => 2,
            Some("/v1/lookup/{key}") => 3,
            Some("/v1/node" | "/v1/limits") => 4,
            Some("/metrics" | "/healthz") => 5,
            _ => 6,
        };
        let class = usize::from(status / 100).clamp(1, CLASSES.len()).saturating_sub(1);
        if let Some(count) = self.0.get(route).and_then(|classes| classes.get(class)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts as a metric, without the series that never counted.
    pub fn to_metric(&self) -> Metric {
        let mut series = Vec::new();
        for (route, counts) in ROUTES.iter().zip(&self.0) {
            for (class, count) in CLASSES.iter().zip(counts) {
                let value = count.load(Ordering::Relaxed) as f64;
                if value > 0.0 {
                    series.push(Series { labels: vec![("route", route), ("status", class)], value });
                }
            }
        }
        let help = "HTTP requests by route and class of status";
        Metric { name: "comet_http_requests_total", help, kind: MetricKind::Counter, series }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_help_type_and_series() {
        let counters = RequestCounters::default();
        counters.count(Some("/v1/objects/{key}"), 200);
        counters.count(Some("/v1/objects/{key}"), 201);
        counters.count(None, 404);
        let metrics =
            [Metric::gauge("comet_peers", "Contacts in the routing table", 3.0), counters.to_metric()];
        assert_eq!(
            to_text(&metrics),
            "# HELP comet_peers Contacts in the routing table\n\
             # TYPE comet_peers gauge\n\
             comet_peers 3\n\
             # HELP comet_http_requests_total HTTP requests by route and class of status\n\
             # TYPE comet_http_requests_total counter\n\
             comet_http_requests_total{route=\"objects\",status=\"2xx\"} 2\n\
             comet_http_requests_total{route=\"unknown\",status=\"4xx\"} 1\n"
        );
    }

    #[test]
    fn odd_statuses_count_at_the_edge() {
        let counters = RequestCounters::default();
        counters.count(None, 0);
        counters.count(None, 999);
        let classes: Vec<_> = counters.to_metric().series.iter().map(|series| series.labels[1].1).collect();
        assert_eq!(classes, ["1xx", "5xx"]);
    }
}
