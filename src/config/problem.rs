//! What is wrong, and where.

use std::fmt;

/// One thing to correct. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// As the operator named the file; `environment` for an env var.
    pub file: String,
    /// From 1; 0 when there is no line to name.
    pub line: u32,
    /// As `workspaces[0].environments[0].keys[1].scopes`, or the name of an env var.
    pub field: String,
    pub text: String,
}

/// All that is wrong with a file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.file)?;
        if self.line != 0 {
            write!(out, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(out, ": {}", self.field)?;
        }
        write!(out, ": {}", self.text)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index != 0 {
                out.write_str("\n")?;
            }
            problem.fmt(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_is_one_line_with_what_is_known() {
        let problem = |line, field: &str| Problem {
            file: "a.toml".to_owned(),
            line,
            field: field.to_owned(),
            text: "is missing".to_owned(),
        };
        let problems = Problems(vec![problem(3, "data.listen"), problem(4, ""), problem(0, "x")]);
        insta::assert_snapshot!(problems, @r"
        a.toml:3: data.listen: is missing
        a.toml:4: is missing
        a.toml: x: is missing
        ");
    }
}
