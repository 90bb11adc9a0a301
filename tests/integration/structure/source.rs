//! Rust as far as its imports show in it: words and signs, without comments, text and tests.

/// A word or a sign.
#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    /// Counted from 1.
    pub line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }

    pub fn is_word(&self) -> bool {
        self.text.starts_with(is_in_word)
    }
}

/// The code of a file that is compiled outside of tests.
pub fn code(source: &str) -> Vec<Token> {
    without_tests(&tokens(source))
}

/// How many lines a file has in front of the module of its tests.
pub fn lines(source: &str) -> usize {
    let tokens = tokens(source);
    let begins_tests = |at: &usize| {
        let module = after_attributes(&tokens, *at);
        is_for_tests(&tokens[*at..]) && tokens[module].is("mod") && tokens[module + 2].is("{")
    };
    match (0..tokens.len()).find(begins_tests) {
        Some(at) => tokens[at].line - 1,
        None => source.lines().count(),
    }
}

fn tokens(source: &str) -> Vec<Token> {
    let (mut rest, mut line, mut tokens) = (source, 1, Vec::new());
    while let Some(first) = rest.chars().next() {
        let (length, is_code) = piece(rest, first);
        let (text, behind) = rest.split_at(length);
        if is_code {
            tokens.push(Token {
                text: text.to_owned(),
                line,
            });
        }
        line += text.matches('\n').count();
        rest = behind;
    }
    tokens
}

/// How long the piece is that the source begins with, in bytes, and whether imports may show in it.
fn piece(source: &str, first: char) -> (usize, bool) {
    if source.starts_with("//") {
        (source.find('\n').unwrap_or(source.len()), false)
    } else if source.starts_with("/*") {
        (source.find("*/").map_or(source.len(), |at| at + 2), false)
    } else if let Some(length) = text(source) {
        (length, false)
    } else if let Some(name) = source.strip_prefix('\'') {
        (1 + lifetime_or_character(name), false)
    } else if is_in_word(first) {
        (word(source), true)
    } else if source.starts_with("::") {
        (2, true)
    } else {
        (first.len_utf8(), !first.is_whitespace())
    }
}

fn is_in_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn word(source: &str) -> usize {
    source.find(|c| !is_in_word(c)).unwrap_or(source.len())
}

/// The length of a string, if it begins with one.
fn text(source: &str) -> Option<usize> {
    let quoted = source.trim_start_matches(['b', 'c']);
    if let Some(raw) = quoted.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inner = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inner.find(&end).map_or(inner.len(), |at| at + end.len());
        return Some(source.len() - inner.len() + length);
    }
    let inner = quoted.strip_prefix('"')?;
    Some(source.len() - inner.len() + until(inner, '"'))
}

/// The length behind the quote.
fn lifetime_or_character(source: &str) -> usize {
    let second = source.chars().nth(1);
    if source.starts_with('\\') || second == Some('\'') {
        until(source, '\'')
    } else {
        word(source)
    }
}

/// How far it is to behind a quote that is not escaped.
fn until(source: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in source.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    source.len()
}

fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let (mut code, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if is_for_tests(&tokens[at..]) {
            at = item_end(tokens, after_attributes(tokens, at));
        } else {
            code.push(tokens[at].clone());
            at += 1;
        }
    }
    code
}

fn is_for_tests(tokens: &[Token]) -> bool {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    tokens.len() > attribute.len() && tokens.iter().zip(attribute).all(|(token, text)| token.is(text))
}

fn after_attributes(tokens: &[Token], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|token| token.is("#")) {
        at = group_end(tokens, at + 1);
    }
    at
}

/// Behind an item: its semicolon, or the braces that it ends with.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" => return at + 1,
            "{" => return group_end(tokens, at),
            "(" | "[" => at = group_end(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Behind the bracket that closes the one at `at`.
pub fn group_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (number, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return number + 1;
        }
    }
    tokens.len()
}
