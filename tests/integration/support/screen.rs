//! The screen of a terminal: which text the bytes of a program leave on it.

/// A row of the screen.
#[derive(Debug, Default)]
struct Row {
    text: Vec<char>,
    /// Whether its line goes on in the next row, because it was too long for one.
    goes_on: bool,
}

/// A line that was on the screen and was erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    pub text: String,
    /// Over how many rows it went.
    pub rows: usize,
}

/// A terminal that knows the few commands that mkqcow2 may give. Lines that are too long go on in the next row; where it
/// is made narrower, those that no longer fit are broken again, as by most terminals.
#[derive(Debug)]
pub struct Screen {
    width: usize,
    rows: Vec<Row>,
    row: usize,
    /// At most the width: a character that follows goes to the next row then.
    column: usize,
    /// Whether lines that are too long go on in the next row.
    wraps: bool,
    pending: Vec<u8>,
    drawn: Vec<Drawn>,
}

impl Screen {
    pub fn new(width: usize) -> Self {
        Self {
            width,
            rows: vec![Row::default()],
            row: 0,
            column: 0,
            wraps: true,
            pending: Vec::new(),
            drawn: Vec::new(),
        }
    }

    /// Takes what a program writes.
    pub fn take(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let valid = match std::str::from_utf8(&pending) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let mut text = std::str::from_utf8(&pending[..valid]).unwrap();
        while let Some(rest) = self.step(text) {
            text = rest;
        }
        // A character or a command of which the end is still to come.
        let begun = valid - text.len();
        self.pending = pending[begun..].to_vec();
    }

    /// Obeys one character or command. Returns the rest; none if not all of it is there.
    fn step<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let Some(command) = text.strip_prefix('\u{1b}') else {
            let mut characters = text.chars();
            self.character(characters.next()?);
            return Some(characters.as_str());
        };
        let end = command.find(|end: char| end.is_ascii_alphabetic())?;
        let (parameters, rest) = command.split_at(end);
        let (last, rest) = rest.split_at(1);
        self.command(parameters, last);
        Some(rest)
    }

    fn character(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => {
                self.row += 1;
                if self.row == self.rows.len() {
                    self.rows.push(Row::default());
                }
            }
            shown => {
                assert!(!shown.is_control(), "{shown:?}");
                if self.column == self.width && self.wraps {
                    self.rows[self.row].goes_on = true;
                    self.character('\n');
                    self.column = 0;
                }
                self.column = self.column.min(self.width - 1);
                let text = &mut self.rows[self.row].text;
                text.resize(text.len().max(self.column + 1), ' ');
                text[self.column] = shown;
                self.column += 1;
            }
        }
    }

    fn command(&mut self, parameters: &str, last: &str) {
        let number = parameters.trim_start_matches('[').parse().unwrap_or(1);
        match (parameters, last) {
            ("[" | "[0", "K") => self.erase(self.row, self.column),
            ("[2", "K") => self.erase(self.row, 0),
            ("[" | "[0", "J") => {
                self.erase(self.row, self.column);
                self.rows.truncate(self.row + 1);
            }
            ("[?7", "l") => self.wraps = false,
            ("[?7", "h") => self.wraps = true,
            (_, "A") => self.go_to(self.row.saturating_sub(number)),
            (_, "B") => self.go_to(self.row + number),
            _ => panic!("a command that not every terminal knows: {parameters:?} {last}"),
        }
    }

    fn go_to(&mut self, row: usize) {
        self.row = row.min(self.rows.len() - 1);
        self.column = self.column.min(self.width - 1);
    }

    fn erase(&mut self, row: usize, from: usize) {
        let (first, last) = self.line_around(row);
        let text = self.text(first, last);
        if !text.is_empty() && self.drawn.last().is_none_or(|drawn| drawn.text != text) {
            let rows = last - first + 1;
            self.drawn.push(Drawn { text, rows });
        }
        self.rows[row].text.truncate(from);
        self.rows[row].goes_on = false;
        if from == 0 && row > 0 {
            self.rows[row - 1].goes_on = false;
        }
    }

    /// The first and the last row of the line that a row belongs to.
    fn line_around(&self, row: usize) -> (usize, usize) {
        let before = self.rows[..row].iter().rev();
        let first = row - before.take_while(|row| row.goes_on).count();
        let behind = self.rows[row..].iter();
        (first, row + behind.take_while(|row| row.goes_on).count())
    }

    fn text(&self, first: usize, last: usize) -> String {
        let rows = self.rows[first..=last].iter();
        let text: String = rows.flat_map(|row| &row.text).collect();
        text.trim_end().to_owned()
    }

    /// Makes it wider or narrower. The cursor stays at its character.
    pub fn resize(&mut self, width: usize) {
        let (mut rows, mut cursor) = (Vec::new(), (0, 0));
        let mut first = 0;
        while first < self.rows.len() {
            let (_, last) = self.line_around(first);
            let line: Vec<char> = self.rows[first..=last]
                .iter()
                .flat_map(|row| row.text.clone())
                .collect();
            if (first..=last).contains(&self.row) {
                let at = (self.row - first) * self.width + self.column;
                cursor = (rows.len() + at / width, at % width);
            }
            let mut pieces = line.chunks(width).peekable();
            let is_empty = pieces.peek().is_none();
            while let Some(piece) = pieces.next() {
                rows.push(Row {
                    text: piece.to_vec(),
                    goes_on: pieces.peek().is_some(),
                });
            }
            if is_empty {
                rows.push(Row::default());
            }
            first = last + 1;
        }
        rows.resize_with(rows.len().max(cursor.0 + 1), Row::default);
        self.rows = rows;
        (self.row, self.column) = cursor;
        self.width = width;
    }

    /// What stands on it, line by line: one that goes over several rows is one line.
    pub fn lines(&self) -> Vec<String> {
        let (mut lines, mut first) = (Vec::new(), 0);
        while first < self.rows.len() {
            let (_, last) = self.line_around(first);
            lines.push(self.text(first, last));
            first = last + 1;
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// What stood on it and was erased or drawn anew, without repetitions.
    pub fn drawn(&self) -> &[Drawn] {
        &self.drawn
    }
}

#[test]
fn a_line_that_is_erased_is_seen_and_one_that_is_too_long_goes_over_several_rows() {
    let mut screen = Screen::new(10);
    screen.take(b"12345678901234\r\x1b[2Kbar\r\x1b[Jdone\r\n");
    assert_eq!(screen.lines(), ["1234567890", "done"], "not all of it is erased");
    let texts: Vec<_> = screen.drawn().iter().map(|drawn| drawn.text.as_str()).collect();
    assert_eq!(texts, ["12345678901234", "bar"]);
    assert_eq!(screen.drawn()[0].rows, 2);
    screen.take(b"1\x1b[?7l2345678901234\x1b[?7h\x1b");
    screen.take(b"[A");
    screen.take(b"\xc3");
    screen.take(b"\xa4");
    assert_eq!(screen.lines(), ["1234567890", "done     ä", "1234567894"]);
}

#[test]
fn a_narrower_screen_breaks_lines_and_the_cursor_stays_at_its_character() {
    let mut screen = Screen::new(10);
    screen.take(b"above\r\n12345678\r");
    screen.resize(3);
    assert_eq!(screen.rows.len(), 5);
    assert_eq!((screen.row, screen.column), (2, 0));
    screen.take(b"\x1b[Jx\r\n");
    assert_eq!(screen.lines(), ["above", "x"]);
    screen.resize(10);
    assert_eq!(screen.lines(), ["above", "x"]);
}
