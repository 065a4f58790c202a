//! Options on the command line: `--name value`, each given once.

/// What stands behind a subcommand.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pairs: Vec<(String, String)>,
}

impl Arguments {
    /// Reads options; every name must be one of `known`.
    pub(crate) fn parse(arguments: &[String], known: &[&str]) -> Result<Self, String> {
        let mut pairs = Vec::new();
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let bare = name.strip_prefix("--").filter(|bare| known.contains(bare));
            let bare = bare.ok_or_else(|| format!("unknown option {name}; known: {known:?}"))?;
            let value = rest.next().ok_or_else(|| format!("{name} needs a value"))?;
            pairs.push((bare.to_owned(), value.clone()));
        }
        Ok(Self { pairs })
    }

    /// The value of an option.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The value of an option that is a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("--{name} {text}: not a number"));
        self.text(name).map(parse).transpose()
    }
}
