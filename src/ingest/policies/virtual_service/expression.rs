//! Expressions that every Envoy takes: for another it would refuse all routes of a port.

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    Assertion, AssertionKind, Ast, ClassSet, ClassSetItem, Flag, Flags, FlagsItemKind, Group, GroupKind,
    HexLiteralKind, Literal, LiteralKind, Repetition, RepetitionKind, RepetitionRange, SpecialLiteralKind,
};

/// The largest program that Envoy takes when its runtime does not say otherwise (`re2.max_program_size.error_level`).
const MAX_SIZE: u64 = 100;
/// How often RE2 repeats something, repeats of repeats multiplied.
const MAX_REPEATS: u64 = 1000;
/// Instructions of every program: failure, success, and the search for a beginning.
const FRAME: u64 = 4;
/// Instructions of an operator at most.
const OPERATOR: u64 = 4;
/// Ranges of `\s`, `[[:punct:]]` and their like at most.
const NAMED_CLASS: u64 = 5;

/// Checks an expression.
///
/// # Errors
/// Why Envoy would refuse it, or why that cannot be known.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is no RE2 expression: it is empty".to_owned());
    }
    let parsed =
        Parser::new().parse(text).map_err(|error| format!("is no RE2 expression: {}", error.kind()))?;
    let folded = is_folded(&parsed);
    let size = Measure { text, folded }.size(&parsed, 1);
    let size = size.map_err(|why| format!("is no RE2 expression: {why}"))?.saturating_add(FRAME);
    if size > MAX_SIZE {
        return Err(format!(
            "is too large: its program has up to {size} instructions, and Envoy takes no more than {MAX_SIZE} \
             (re2.max_program_size.error_level); shorten it or repeat less"
        ));
    }
    Ok(())
}

type Sized = Result<u64, &'static str>;

/// Whether case counts for nothing somewhere.
fn is_folded(ast: &Ast) -> bool {
    let told = |flags: &Flags| flags.flag_state(Flag::CaseInsensitive) == Some(true);
    match ast {
        Ast::Flags(set) => told(&set.flags),
        Ast::Group(group) => group.flags().is_some_and(told) || is_folded(&group.ast),
        Ast::Repetition(repetition) => is_folded(&repetition.ast),
        Ast::Alternation(all) => all.asts.iter().any(is_folded),
        Ast::Concat(all) => all.asts.iter().any(is_folded),
        _ => false,
    }
}

/// What a program costs; an error for what RE2 does not know or reads differently.
struct Measure<'a> {
    text: &'a str,
    folded: bool,
}

impl Measure<'_> {
    /// The instructions of a part that is repeated this often.
    fn size(&self, ast: &Ast, repeats: u64) -> Sized {
        match ast {
            Ast::Empty(_) => Ok(1),
            Ast::Flags(set) => flags(&set.flags).map(|()| 0),
            Ast::Literal(one) => literal(one),
            Ast::Dot(_) => Ok(2),
            Ast::Assertion(one) => assertion(one),
            Ast::ClassUnicode(_) => Err(UNICODE_CLASS),
            Ast::ClassPerl(_) => Ok(NAMED_CLASS),
            Ast::ClassBracketed(class) => {
                let ClassSet::Item(item) = &class.kind else {
                    return Err("it has no operators on classes");
                };
                let ranges = ranges(item)?.saturating_add(u64::from(class.negated));
                Ok(if self.folded { ranges.saturating_mul(3) } else { ranges })
            }
            Ast::Repetition(one) => self.repeated(one, repeats),
            Ast::Group(group) => self.group(group, repeats),
            Ast::Alternation(all) => self.sum(&all.asts, 1, repeats),
            Ast::Concat(all) => self.sum(&all.asts, 0, repeats),
        }
    }

    fn sum(&self, parts: &[Ast], each: u64, repeats: u64) -> Sized {
        parts.iter().try_fold(0_u64, |sum, part| {
            Ok(sum.saturating_add(self.size(part, repeats)?).saturating_add(each))
        })
    }

    fn group(&self, group: &Group, repeats: u64) -> Sized {
        let own = match &group.kind {
            GroupKind::CaptureIndex(_) => 2,
            GroupKind::CaptureName { starts_with_p: true, name } if name.name.bytes().all(is_word) => 2,
            GroupKind::CaptureName { .. } => return Err("names of groups are written (?P<name>…)"),
            GroupKind::NonCapturing(told) => flags(told).map(|()| 0)?,
        };
        Ok(self.size(&group.ast, repeats)?.saturating_add(own))
    }

    fn repeated(&self, one: &Repetition, repeats: u64) -> Sized {
        if matches!(*one.ast, Ast::Repetition(_)) {
            return Err("a repeat follows another: put the first into (?:…)");
        }
        let RepetitionKind::Range(range) = &one.op.kind else {
            return Ok(self.size(&one.ast, repeats)?.saturating_add(OPERATOR));
        };
        let written = self.text.get(one.op.span.start.offset..one.op.span.end.offset).unwrap_or_default();
        let plain = written.trim_end_matches('?').bytes().all(|b| b.is_ascii_digit() || b"{,}".contains(&b));
        if !plain || written.starts_with("{,") {
            return Err("repeats are written {n}, {n,} or {n,m}");
        }
        let (least, most) = match range {
            RepetitionRange::Exactly(n) => (*n, Some(*n)),
            RepetitionRange::AtLeast(n) => (*n, None),
            RepetitionRange::Bounded(n, m) => (*n, Some(*m)),
        };
        let copies = u64::from(most.unwrap_or(least).max(1));
        let repeats = repeats.saturating_mul(copies);
        if repeats > MAX_REPEATS {
            return Err("it repeats something more than 1000 times");
        }
        let operators = most.map_or(1, |most| u64::from(most.saturating_sub(least)));
        let inner = self.size(&one.ast, repeats)?;
        Ok(copies.saturating_mul(inner).saturating_add(operators.saturating_mul(OPERATOR)))
    }
}

const UNICODE_CLASS: &str = "Unicode classes are larger than Envoy takes";

/// The ranges of a class.
fn ranges(item: &ClassSetItem) -> Sized {
    match item {
        ClassSetItem::Empty(_) => Ok(0),
        ClassSetItem::Literal(one) => ascii(one),
        ClassSetItem::Range(range) => ascii(&range.start).and(ascii(&range.end)),
        ClassSetItem::Ascii(_) | ClassSetItem::Perl(_) => Ok(NAMED_CLASS),
        ClassSetItem::Unicode(_) => Err(UNICODE_CLASS),
        ClassSetItem::Bracketed(_) => Err("a class in a class: write \\[ for a bracket"),
        ClassSetItem::Union(all) => {
            all.items.iter().try_fold(0_u64, |sum, item| Ok(sum.saturating_add(ranges(item)?)))
        }
    }
}

/// A character of a class: Envoy compares bytes.
fn ascii(one: &Literal) -> Sized {
    if one.c.is_ascii() { literal(one) } else { Err("classes have ASCII characters only") }
}

fn literal(one: &Literal) -> Sized {
    match one.kind {
        LiteralKind::Verbatim => Ok(one.c.len_utf8() as u64),
        LiteralKind::Meta => Ok(1),
        LiteralKind::Superfluous if one.c.is_ascii_punctuation() && one.c != '_' => Ok(1),
        LiteralKind::Special(SpecialLiteralKind::Space) => Err("it has no such escape"),
        LiteralKind::Special(_) => Ok(1),
        LiteralKind::HexFixed(HexLiteralKind::X) | LiteralKind::HexBrace(HexLiteralKind::X)
            if one.c.is_ascii() =>
        {
            Ok(1)
        }
        _ => Err("it has no such escape"),
    }
}

fn assertion(one: &Assertion) -> Sized {
    match one.kind {
        AssertionKind::StartLine
        | AssertionKind::EndLine
        | AssertionKind::StartText
        | AssertionKind::EndText
        | AssertionKind::WordBoundary
        | AssertionKind::NotWordBoundary => Ok(1),
        _ => Err("it has no such assertion"),
    }
}

fn flags(flags: &Flags) -> Result<(), &'static str> {
    let known = |kind: &FlagsItemKind| match kind {
        FlagsItemKind::Negation => true,
        FlagsItemKind::Flag(flag) => !matches!(flag, Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace),
    };
    let all = flags.items.iter().all(|item| known(&item.kind));
    if all { Ok(()) } else { Err("it has the flags i, m, s and U only") }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_envoy_takes_passes() {
        for text in [
            ".*",
            "^/api/v[0-9]+/users/[^/]+/?$",
            r"(?i)(?P<name>\w+)\.example\.(com|org)",
            r"/v1/[a-z0-9-]{3,6}(\?.*)?",
            r"\x41\x{42}\t\-[[:alpha:]\d]*?",
            "é+",
            "a{0,9}",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_re2_does_not_know_is_refused() {
        for (text, told) in [
            ("", "empty"),
            ("(", "unclosed"),
            ("(?=a)", "look-around"),
            (r"(a)\1", "backreferences"),
            (r"\u0041", "escape"),
            (r"\x{e9}", "escape"),
            ("(?x)a b", "flags"),
            ("(?:(?u)a)", "flags"),
            (r"\p{Alphabetic}", "Unicode"),
            (r"[\pL]", "Unicode"),
            (r"\b{start}a", "assertion"),
            ("[a-z&&b]", "operators"),
            ("[a[b]]", "class in a class"),
            ("[é]", "ASCII"),
            ("(?<n>a)", "(?P<name>"),
            ("a**", "follows another"),
            ("a{,3}", "valid decimal"),
            ("a{1001}", "1000 times"),
            ("(?:a{40}){40}", "1000 times"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains("RE2") && error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_with_its_size() {
        for text in ["/v1/[a-z0-9-]{60,120}", &"a".repeat(97), "(abc|def){20}"] {
            let error = check(text).expect_err(text);
            assert!(
                error.contains("takes no more than 100") && error.contains("max_program_size"),
                "{error}"
            );
        }
        assert_eq!(check(&"a".repeat(96)), Ok(()));
    }
}
