//! The text that a scrape answers, in Prometheus' exposition format 0.0.4.

use std::fmt::{Display, Write as _};

use super::cells::Histogram;
use super::names::{Kind, Metric};

#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    /// What the samples that follow belong to.
    name: &'static str,
}

impl Page {
    pub(super) fn family(&mut self, metric: &'static Metric) {
        self.name = metric.name;
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.push(format_args!("# HELP {} {}\n", metric.name, metric.help));
        self.push(format_args!("# TYPE {} {kind}\n", metric.name));
    }

    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, metric: &'static Metric, value: impl Display) {
        self.family(metric);
        self.sample(&[], value);
    }

    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let (buckets, count) = histogram.cumulative();
        for (bound_us, up_to) in buckets {
            let bound = seconds(bound_us).to_string();
            self.line("_bucket", &[labels, &[("le", &bound)]].concat(), up_to);
        }
        self.line("_bucket", &[labels, &[("le", "+Inf")]].concat(), count);
        self.line("_sum", labels, seconds(histogram.sum_us()));
        self.line("_count", labels, count);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (n, (name, value)) in labels.iter().enumerate() {
            self.text.push(if n == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.push_escaped(value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.push(format_args!(" {value}\n"));
    }

    fn push_escaped(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            }
        }
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a string takes everything");
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
