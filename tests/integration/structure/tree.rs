//! The modules of a project, and which file takes what from which.

use std::collections::{BTreeMap, BTreeSet};

use super::module::{Module, Path};
use super::source::code;

/// How many names in a row may stand for another: more go in circles themselves.
const RENAMED: usize = 16;

/// What files hold, by their paths.
pub type Files = BTreeMap<String, String>;

/// By who takes and who gives: the names that are taken.
pub type Imports = BTreeMap<(String, String), BTreeSet<String>>;

/// A library and the program that uses it.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    /// The modules that all others are in, by the names of their crates.
    roots: BTreeMap<&'static str, usize>,
}

/// A module in its place.
#[derive(Debug)]
struct Node {
    file: String,
    parent: Option<usize>,
    children: Vec<(String, usize)>,
    module: Module,
}

/// What a path leads to.
enum Target {
    Module(usize),
    /// Something that a module declares.
    Item(usize, String),
}

impl Tree {
    /// The modules of crates, each with the file that it begins with.
    pub fn read(files: &Files, crates: &[(&'static str, &str)]) -> Self {
        let mut tree = Self::default();
        for (name, file) in crates {
            let (folder, _) = file.rsplit_once('/').unwrap();
            let root = tree.add(files, parsed(files, file), (file, folder), None);
            tree.roots.insert(name, root);
        }
        tree
    }

    /// Adds a module, and those in it, whose files are in `folder`.
    fn add(
        &mut self,
        files: &Files,
        mut module: Module,
        (file, folder): (&str, &str),
        parent: Option<usize>,
    ) -> usize {
        let number = self.nodes.len();
        let declared = std::mem::take(&mut module.declared);
        self.nodes.push(Node {
            file: file.to_owned(),
            parent,
            children: Vec::new(),
            module,
        });
        for (name, inline) in declared {
            let folder = format!("{folder}/{name}");
            let own = format!("{folder}.rs");
            let child = match inline {
                Some(module) => self.add(files, module, (file, &folder), Some(number)),
                None => self.add(files, parsed(files, &own), (&own, &folder), Some(number)),
            };
            self.nodes[number].children.push((name, child));
        }
        number
    }

    /// The files of the modules that a crate begins with, in their order.
    pub fn declared(&self, root: &str) -> Vec<&str> {
        let children = self.nodes[self.roots[root]].children.iter();
        children
            .map(|(_, child)| self.nodes[*child].file.as_str())
            .collect()
    }

    /// Who takes what from whom. That a file is a module of another is no import.
    pub fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (number, taker) in self.nodes.iter().enumerate() {
            for path in taker.module.needs() {
                let Some(Target::Item(giver, name)) = self.find(number, path, true, RENAMED) else {
                    continue;
                };
                let giver = &self.nodes[giver].file;
                if *giver != taker.file {
                    let names = imports.entry((taker.file.clone(), giver.clone())).or_default();
                    names.insert(name);
                }
            }
        }
        imports
    }

    /// What a path in a module leads to, unless it leads out of the project. It may be the beginning of another.
    fn find(&self, module: usize, path: &Path, is_all: bool, renamed: usize) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        let local = |name| self.named(module, name, is_all && rest.is_empty(), renamed);
        let mut target = match first.as_str() {
            "crate" => Target::Module(self.root_of(module)),
            "self" => Target::Module(module),
            "super" => Target::Module(self.nodes[module].parent?),
            name => local(name).or_else(|| Some(Target::Module(*self.roots.get(name)?)))?,
        };
        for (behind, name) in (1..).zip(rest) {
            let Target::Module(module) = target else { break };
            target = match name.as_str() {
                "self" => Target::Module(module),
                "super" => Target::Module(self.nodes[module].parent?),
                name => self
                    .named(module, name, is_all && behind == rest.len(), renamed)
                    .unwrap_or_else(|| Target::Item(module, name.to_owned())),
            };
        }
        Some(target)
    }

    /// What a module means by a name that it declares as a module or by a `use`. A module and a function may have the
    /// same: at the end of a path it is the function.
    fn named(&self, module: usize, name: &str, is_last: bool, renamed: usize) -> Option<Target> {
        let node = &self.nodes[module];
        let child = node.children.iter().find(|(known, _)| known == name);
        let child = child.map(|(_, child)| Target::Module(*child));
        let used = || {
            let used = node.module.uses.iter().find(|used| used.name == name)?;
            self.find(module, &used.path, is_last, renamed.checked_sub(1)?)
        };
        if is_last {
            used().or(child)
        } else {
            child.or_else(used)
        }
    }

    fn root_of(&self, mut module: usize) -> usize {
        while let Some(parent) = self.nodes[module].parent {
            module = parent;
        }
        module
    }
}

fn parsed(files: &Files, file: &str) -> Module {
    let source = files.get(file);
    Module::parse(&code(source.unwrap_or_else(|| panic!("there is no {file}"))))
}
