//! Defines the languages that clients name in their headers.

/// The language of a client: a name in JSON headers, a byte in binary ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Language {
    Java,
    Cpp,
    Dotnet,
    Python,
    Delphi,
    Erlang,
    Ruby,
    /// Any other, also one whose name or number is not known here.
    Other,
    Http,
    Go,
    Php,
    Oms,
    Rust,
    NodeJs,
}

/// The languages with their names, each at the index that is its byte.
const LANGUAGES: [(Language, &str); 14] = [
    (Language::Java, "JAVA"),
    (Language::Cpp, "CPP"),
    (Language::Dotnet, "DOTNET"),
    (Language::Python, "PYTHON"),
    (Language::Delphi, "DELPHI"),
    (Language::Erlang, "ERLANG"),
    (Language::Ruby, "RUBY"),
    (Language::Other, "OTHER"),
    (Language::Http, "HTTP"),
    (Language::Go, "GO"),
    (Language::Php, "PHP"),
    (Language::Oms, "OMS"),
    (Language::Rust, "RUST"),
    (Language::NodeJs, "NODE_JS"),
];

impl Language {
    /// The language of this byte.
    pub fn from_byte(byte: u8) -> Self {
        let known = LANGUAGES.get(usize::from(byte));
        known.map_or(Self::Other, |(language, _)| *language)
    }

    /// The language of this name.
    pub fn from_name(name: &str) -> Self {
        let known = LANGUAGES.iter().find(|(_, known)| *known == name);
        known.map_or(Self::Other, |(language, _)| *language)
    }

    /// The byte of binary headers.
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// The name in JSON headers.
    pub fn name(self) -> &'static str {
        let known = LANGUAGES.get(usize::from(self.byte()));
        known.map_or("OTHER", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_has_its_byte_and_its_name() {
        for (index, (language, name)) in LANGUAGES.iter().enumerate() {
            assert_eq!(usize::from(language.byte()), index);
            assert_eq!(Language::from_byte(language.byte()), *language);
            assert_eq!(Language::from_name(name), *language);
            assert_eq!(language.name(), *name);
        }
        assert_eq!(Language::from_byte(200), Language::Other);
        assert_eq!(Language::from_name("COBOL"), Language::Other);
    }
}
