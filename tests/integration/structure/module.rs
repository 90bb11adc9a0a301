//! A module: what it declares, what it takes, and by which paths.

use std::collections::BTreeSet;

use super::source::{Token, group_end};

/// The names that lead to something, from the first to the last.
pub type Path = Vec<String>;

/// What is written in a module.
#[derive(Debug, Default)]
pub struct Module {
    /// The modules in it, by name, in their order; none for those that have a file of their own.
    pub declared: Vec<(String, Option<Module>)>,
    pub uses: Vec<Use>,
    /// Paths that are written out where they are needed, and names alone.
    mentions: BTreeSet<Path>,
}

/// A name that a `use` declares.
#[derive(Debug)]
pub struct Use {
    /// An asterisk for all there is.
    pub name: String,
    pub path: Path,
    is_public: bool,
}

impl Module {
    pub fn parse(tokens: &[Token]) -> Self {
        let (mut module, mut at, mut is_public) = (Self::default(), 0, false);
        while at < tokens.len() {
            let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
            let begins_public = text(at) == "pub";
            at = match (text(at), text(at + 1), text(at + 2)) {
                ("pub", "(", "crate" | "super" | "self" | "in") => group_end(tokens, at + 1),
                ("mod", name, ";") => {
                    module.declared.push((name.to_owned(), None));
                    at + 3
                }
                ("mod", name, "{") => {
                    let end = group_end(tokens, at + 2);
                    let inner = Self::parse(&tokens[at + 3..end - 1]);
                    module.declared.push((name.to_owned(), Some(inner)));
                    end
                }
                // Not the list of what a type captures.
                ("use", next, _) if next != "<" => module.add_use(tokens, at + 1, Vec::new(), is_public),
                _ => module.add_mention(tokens, at),
            };
            is_public = begins_public;
        }
        module
    }

    /// Paths to what the module needs itself. What it only hands on to others is not among them.
    pub fn needs(&self) -> impl Iterator<Item = &Path> {
        let is_needed = |used: &&Use| !used.is_public || self.mentions_name(&used.name);
        let used = self.uses.iter().filter(is_needed).map(|used| &used.path);
        used.chain(self.mentions.iter().filter(|path| path.len() > 1))
    }

    fn mentions_name(&self, name: &String) -> bool {
        self.mentions.iter().any(|path| path.first() == Some(name))
    }

    /// Adds what a branch of a `use` declares, which goes on behind `path`. Returns where it ends.
    fn add_use(&mut self, tokens: &[Token], mut at: usize, mut path: Path, is_public: bool) -> usize {
        let mut name = None;
        loop {
            match tokens[at].text.as_str() {
                "{" => {
                    while !tokens[at].is("}") {
                        at = self.add_use(tokens, at + 1, path.clone(), is_public);
                    }
                    return at + 1;
                }
                "," | "}" | ";" => break,
                "as" => {
                    name = Some(tokens[at + 1].text.clone());
                    at += 1;
                }
                "::" => {}
                name => path.push(name.to_owned()),
            }
            at += 1;
        }
        // The module whose braces these are is called `self` in them.
        if let Some(last) = path.iter().rfind(|name| *name != "self") {
            let name = name.unwrap_or_else(|| last.clone());
            self.uses.push(Use {
                name,
                path,
                is_public,
            });
        }
        at
    }

    /// Adds the path that begins with a token, if one does. Returns where it ends.
    fn add_mention(&mut self, tokens: &[Token], at: usize) -> usize {
        if !tokens[at].is_word() {
            return at + 1;
        }
        let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.is(text));
        let (mut path, mut end) = (vec![tokens[at].text.clone()], at + 1);
        while is(end, "::") && tokens.get(end + 1).is_some_and(Token::is_word) {
            path.push(tokens[end + 1].text.clone());
            end += 2;
        }
        let is_behind = |text: &str| at > 0 && is(at - 1, text);
        let is_field = is_behind(".") && !(at > 1 && is(at - 2, "."));
        if !is_field && !is_behind("::") {
            self.mentions.insert(path);
        }
        end
    }
}
