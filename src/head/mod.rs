//! Strict framing of HTTP/1.1 requests.
