//! Paths with too many slashes and dots.

/// The path that is meant, if this one is not it already: no empty part, no `.` or `..`, the slash at the end kept.
///
/// Source: Go `net/http`, `cleanPath`, whose mux answers other paths with a redirect.
pub(super) fn cleaned(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_dots_are_cleaned_as_go_does() {
        for (path, clean) in [
            ("//health", "/health"),
            ("/./version", "/version"),
            ("/../a/../health", "/health"),
            ("/a//b//", "/a/b/"),
            ("//", "/"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(clean), "{path}");
        }
        for path in ["/", "/health", "/health/", "/a.b/..c"] {
            assert_eq!(cleaned(path), None, "{path}");
        }
    }
}
