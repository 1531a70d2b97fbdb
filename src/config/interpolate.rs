//! Env vars in documents: `${NAME}` in a text becomes what the env var NAME holds, `$$` a dollar.

use super::document::{Node, Value};
use super::fields::{Place, Report};

/// Replaces every `${NAME}` below `node`. What comes out of it is hidden in problems.
pub fn interpolate(node: &mut Node, env: &dyn Fn(&str) -> Option<String>, report: &mut Report) {
    walk(node, &mut Place::root(), &mut Interpolation { env, report });
}

struct Interpolation<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    report: &'a mut Report,
}

fn walk(node: &mut Node, place: &mut Place, interpolation: &mut Interpolation<'_>) {
    match &mut node.value {
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, &mut place.index(index, item.line), interpolation);
            }
        }
        Value::Table(table) => {
            for entry in &mut table.entries {
                let mut place = place.key(&entry.key, entry.line);
                walk(&mut entry.node, &mut place, interpolation);
            }
        }
        Value::Text(text) if text.contains('$') => {
            place.line = node.line;
            node.value = match interpolation.text(text, place) {
                Some(text) => Value::Text(text),
                None => Value::Refused,
            };
        }
        Value::Null
        | Value::Flag(_)
        | Value::Number(_)
        | Value::Text(_)
        | Value::Date(_)
        | Value::Refused => {}
    }
}

impl Interpolation<'_> {
    fn text(&mut self, text: &str, place: &Place) -> Option<String> {
        match expand(text, self.env) {
            Ok(expanded) => {
                if expanded.has_env_var {
                    self.report.hide(&expanded.text);
                }
                Some(expanded.text)
            }
            Err(fault) => {
                self.report.problem(place, fault);
                None
            }
        }
    }
}

struct Expanded {
    text: String,
    has_env_var: bool,
}

fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, String> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), has_env_var: false };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.text.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or("`${` has no `}` (a dollar sign itself is written `$$`)")?;
            if !is_env_var_name(name) {
                return Err("between `${` and `}` stands the name of an env var: letters, \
                            digits and `_`"
                    .to_owned());
            }
            let value = env(name).ok_or_else(|| format!("the env var {name} is not set"))?;
            expanded.text.push_str(&value);
            expanded.has_env_var = true;
            rest = after;
        } else {
            expanded.text.push('$');
            rest = after;
        }
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

fn is_env_var_name(name: &str) -> bool {
    let is_start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_start)
        && name.bytes().all(|byte| is_start(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand_a(text: &str) -> Result<String, String> {
        let env = |name: &str| (name == "A").then(|| "val$e".to_owned());
        expand(text, &env).map(|expanded| expanded.text)
    }

    #[test]
    fn env_vars_and_dollars_are_replaced_once() {
        assert_eq!(expand_a("x ${A}${A} y").unwrap(), "x val$eval$e y");
        assert_eq!(expand_a("$${A} costs 5 $ or $$5").unwrap(), "${A} costs 5 $ or $5");
        assert_eq!(expand_a("$").unwrap(), "$");
    }

    #[test]
    fn faults_name_the_env_var() {
        assert_eq!(expand_a("${B}").unwrap_err(), "the env var B is not set");
        assert!(expand_a("${A").unwrap_err().contains("has no `}`"));
        assert!(expand_a("${}").unwrap_err().contains("the name of an env var"));
        assert!(expand_a("${a b}").unwrap_err().contains("the name of an env var"));
        assert!(expand_a("${1A}").unwrap_err().contains("the name of an env var"));
    }

    proptest! {
        #[test]
        fn doubled_dollars_give_any_text(text in "[${}A-C ]{0,20}") {
            prop_assert_eq!(expand_a(&text.replace('$', "$$")).unwrap(), text);
        }
    }
}
