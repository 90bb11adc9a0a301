//! Yes, no, or why that cannot be told: a signature that cannot be read is not one that is absent.

use super::doubt::Doubt;

/// Whether something is so, or what of it cannot be read.
pub(super) type Answer = Result<bool, Doubt>;

/// Yes if one of them is; else it cannot be told if one of them cannot. Asks no further than it has to.
pub(super) fn any(answers: impl IntoIterator<Item = Answer>) -> Answer {
    let mut unclear = None;
    for answer in answers {
        match answer {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(doubt) => unclear = unclear.or(Some(doubt)),
        }
    }
    unclear.map_or(Ok(false), Err)
}

/// No if one of them is not; else it cannot be told if one of them cannot. Asks no further than it has to.
pub(super) fn all(answers: impl IntoIterator<Item = Answer>) -> Answer {
    let denied = answers.into_iter().map(|answer| answer.map(|is_so| !is_so));
    any(denied).map(|is_denied| !is_denied)
}

/// The first of which it is so; if it is of none, that cannot be told if it cannot of one of them.
pub(super) fn first<T: Copy>(
    items: impl IntoIterator<Item = T>,
    is_so: impl Fn(T) -> Answer,
) -> Result<Option<T>, Doubt> {
    let mut found = None;
    let answers = items.into_iter().map(|item| {
        let answer = is_so(item);
        if matches!(answer, Ok(true)) {
            found = Some(item);
        }
        answer
    });
    any(answers).map(|_| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers as letters: yes, no, unclear.
    fn answers(letters: &str) -> impl Iterator<Item = Answer> {
        letters.chars().map(|letter| match letter {
            'y' => Ok(true),
            'n' => Ok(false),
            _ => Err(Doubt::Overlaps),
        })
    }

    fn letter(answer: &Answer) -> char {
        match answer {
            Ok(true) => 'y',
            Ok(false) => 'n',
            Err(_) => '?',
        }
    }

    #[test]
    fn what_cannot_be_told_of_one_counts_unless_the_others_decide() {
        for (letters, any_of, all_of) in [
            ("", 'n', 'y'),
            ("nn", 'n', 'n'),
            ("ny", 'y', 'n'),
            ("yy", 'y', 'y'),
            ("?y", 'y', '?'),
            ("y?", 'y', '?'),
            ("?n", '?', 'n'),
            ("n?", '?', 'n'),
            ("?", '?', '?'),
        ] {
            let told = (letter(&any(answers(letters))), letter(&all(answers(letters))));
            assert_eq!(told, (any_of, all_of), "{letters}");
        }
    }

    #[test]
    fn the_first_is_found_behind_those_of_which_it_cannot_be_told() {
        let of = |letter: char| answers(letter.encode_utf8(&mut [0; 4])).next().unwrap();
        assert_eq!(first("n?yny".chars(), of).unwrap(), Some('y'));
        assert_eq!(first("nn".chars(), of).unwrap(), None);
        assert!(first("n?n".chars(), of).is_err());
    }
}
