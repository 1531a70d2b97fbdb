//! The report as one HTML page that needs nothing else.

use super::Report;

/// The page; the report as JSON goes where the marker is.
const PAGE: &str = include_str!("page.html");
const MARKER: &str = "/*REPORT*/null";

impl Report {
    pub fn to_html(&self) -> serde_json::Result<String> {
        // Inside a script element, no text may end it.
        let json = serde_json::to_string(self)?.replace("</", "<\\/").replace("<!--", "<\\!--");
        Ok(PAGE.replacen(MARKER, &json, 1))
    }
}
