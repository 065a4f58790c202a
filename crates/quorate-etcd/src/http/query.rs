//! The query part of a URL, as far as the probes need it.

/// Names and values, in order. Probes ask for words of letters and underscores, so percent escapes stay as they are.
#[derive(Debug)]
pub(super) struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    /// Takes a query apart; `verbose` alone counts as `verbose=`.
    pub(super) fn parse(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect())
    }

    /// Whether `name` is given, with a value or without.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    /// Whether `name` is given with this value.
    pub(super) fn says(&self, name: &str, value: &str) -> bool {
        self.0.contains(&(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_come_twice_or_without_a_value() {
        let query = Query::parse("exclude=a&verbose&exclude=b");
        assert!(query.says("exclude", "a") && query.says("exclude", "b"));
        assert!(query.has("verbose") && !query.has("other"));
        assert!(!Query::parse("").has(""));
    }
}
