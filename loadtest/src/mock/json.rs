//! JSON text with its members in the order they are written, as the providers send it.

/// JSON text that is already rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw(pub(super) String);

pub(super) const NULL: Option<u64> = None;

/// A value that can be put into JSON text.
pub(super) trait Put {
    fn put(&self, out: &mut String);
}

impl Put for str {
    fn put(&self, out: &mut String) {
        out.push('"');
        for character in self.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                control if control < ' ' => {
                    out.push_str(&format!("\\u{:04x}", u32::from(control)));
                }
                plain => out.push(plain),
            }
        }
        out.push('"');
    }
}

impl Put for String {
    fn put(&self, out: &mut String) {
        self.as_str().put(out);
    }
}

impl Put for Raw {
    fn put(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

macro_rules! put_as_displayed {
    ($($kind:ty)*) => {$(
        impl Put for $kind {
            fn put(&self, out: &mut String) {
                out.push_str(&self.to_string());
            }
        }
    )*};
}
put_as_displayed! { bool u16 u64 usize f64 }

impl<T: Put> Put for Option<T> {
    fn put(&self, out: &mut String) {
        match self {
            Some(value) => value.put(out),
            None => out.push_str("null"),
        }
    }
}

impl<T: Put> Put for [T] {
    fn put(&self, out: &mut String) {
        out.push('[');
        for (index, value) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            value.put(out);
        }
        out.push(']');
    }
}

impl<T: Put, const N: usize> Put for [T; N] {
    fn put(&self, out: &mut String) {
        self.as_slice().put(out);
    }
}

impl<T: Put> Put for Vec<T> {
    fn put(&self, out: &mut String) {
        self.as_slice().put(out);
    }
}

impl<T: Put + ?Sized> Put for &T {
    fn put(&self, out: &mut String) {
        (**self).put(out);
    }
}

/// Appends a member to an object that is being written.
pub(super) fn member(out: &mut String, key: &str, value: &dyn Put) {
    if !out.ends_with('{') {
        out.push(',');
    }
    key.put(out);
    out.push(':');
    value.put(out);
}

impl Raw {
    /// This object with one member more, or as it is.
    pub(super) fn with(mut self, key: &str, value: Option<Raw>) -> Self {
        if let Some(value) = value
            && self.0.ends_with('}')
        {
            self.0.pop();
            member(&mut self.0, key, &value);
            self.0.push('}');
        }
        self
    }
}

/// An object as [`Raw`] text, its members in this order.
macro_rules! object {
    ($($key:literal : $value:expr),* $(,)?) => {{
        let mut out = String::from("{");
        $($crate::mock::json::member(&mut out, $key, &$value);)*
        out.push('}');
        $crate::mock::json::Raw(out)
    }};
}
pub(super) use object;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_keeps_order_and_escapes() {
        let inner = object! { "z": 1_u64, "a": "q\"\\\n\u{1}é" };
        let text = object! { "list": [inner], "none": NULL, "yes": true }.0;
        assert_eq!(text, r#"{"list":[{"z":1,"a":"q\"\\\n\u0001é"}],"none":null,"yes":true}"#);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}
