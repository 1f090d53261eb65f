//! Reads a script's signature (keys, arguments, reply) from the comment at its head, in the same
//! text that the server runs.
//!
//! The head is the comment that begins with `-- <name>: <purpose>`. The purpose ends at an empty
//! comment line. The parts `KEYS`, `ARGV` and `out` follow, with their text from column 6 on. A
//! line that is indented as far continues the previous part. Any other line is a remark.

use crate::scripts::Script;

/// Width of the label that a part begins with.
const LABEL: usize = 6;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// Name of the script.
    pub name: String,
    /// Flags with which the server runs it, separated by commas.
    pub flags: String,
    /// What the script does, in one sentence.
    pub purpose: String,
    /// Its keys.
    pub keys: String,
    /// Its arguments.
    pub arguments: String,
    /// Its reply.
    pub out: String,
    /// All other lines.
    pub remarks: String,
}

impl Signature {
    /// Read the head of a script. Missing parts stay empty.
    pub fn of(script: &Script) -> Self {
        let mut found = Self { name: script.name.to_owned(), flags: flags(script.text), ..Self::default() };
        let mut into = Part::Purpose;
        for line in head(script.name, script.text) {
            let (label, rest) = line.split_at_checked(LABEL).unwrap_or((line, ""));
            let continued = label.trim().is_empty();
            into = match label.trim_end() {
                _ if into == Part::Purpose && !line.is_empty() => into,
                "KEYS" => Part::Keys,
                "ARGV" => Part::Arguments,
                "out" => Part::Out,
                "" if line.is_empty() => Part::Remarks,
                "" if continued => into,
                _ => Part::Remarks,
            };
            let labelled = into != Part::Purpose && (continued || into != Part::Remarks);
            append(found.part(into), if labelled { rest } else { line });
        }
        // The first line begins with the name of the script.
        found.purpose = found.purpose.split_once(": ").map_or_else(String::new, |(_, purpose)| purpose.to_owned());
        found
    }

    fn part(&mut self, part: Part) -> &mut String {
        match part {
            Part::Purpose => &mut self.purpose,
            Part::Keys => &mut self.keys,
            Part::Arguments => &mut self.arguments,
            Part::Out => &mut self.out,
            Part::Remarks => &mut self.remarks,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Purpose,
    Keys,
    Arguments,
    Out,
    Remarks,
}

fn append(to: &mut String, line: &str) {
    if !to.is_empty() && !line.is_empty() {
        to.push('\n');
    }
    to.push_str(line);
}

fn flags(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    first.split_once("flags=").map_or_else(String::new, |(_, flags)| flags.trim().to_owned())
}

/// The lines of the head, without their dashes.
fn head<'a>(name: &str, text: &'a str) -> impl Iterator<Item = &'a str> {
    let opening = format!("-- {name}: ");
    text.lines()
        .skip_while(move |line| !line.starts_with(&opening))
        .map_while(|line| line.strip_prefix("--"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripts::{ALL, ENQUEUE, LOOKUP, RECLAIM, SETTLE, WAIT};

    #[test]
    fn every_script_has_a_complete_head() {
        for script in ALL {
            let signature = Signature::of(script);
            for (part, text) in [
                ("purpose", &signature.purpose),
                ("KEYS", &signature.keys),
                ("ARGV", &signature.arguments),
                ("out", &signature.out),
            ] {
                assert!(!text.is_empty(), "the head of {}.lua has no {part}", script.name);
            }
        }
    }

    #[test]
    fn the_parts_of_a_head_are_told_apart() {
        let wait = Signature::of(&WAIT);
        assert_eq!((wait.name.as_str(), wait.flags.as_str()), ("wait", "allow-oom"));
        assert_eq!(wait.purpose, "read a result, or add the caller to those that it will be sent to.");
        assert_eq!(wait.keys, "waiters, job record, due, running, result, linked, releasing");
        assert_eq!(wait.arguments, "base, id, channel, ms to wait (0 to only check)");
        assert!(wait.out.starts_with("the record if it is a result"));
        assert!(wait.remarks.starts_with("A caller is added only"), "{}", wait.remarks);
    }

    #[test]
    fn a_purpose_may_take_two_lines_and_is_no_remark() {
        let reclaim = Signature::of(&RECLAIM);
        assert!(reclaim.purpose.ends_with("of\njobs per call."), "{}", reclaim.purpose);
        assert!(reclaim.remarks.starts_with("A worker is declared dead"), "{}", reclaim.remarks);
    }

    #[test]
    fn a_part_goes_on_over_several_lines_and_a_remark_does_not_belong_to_it() {
        let settle = Signature::of(&SETTLE);
        assert_eq!(settle.arguments.lines().count(), 18, "{}", settle.arguments);
        assert!(settle.arguments.lines().any(|line| line.trim_start().starts_with("H  returned to the queue")));
        let enqueue = Signature::of(&ENQUEUE);
        assert!(enqueue.remarks.starts_with("If the id of a job belongs"), "{}", enqueue.remarks);
        assert_eq!(enqueue.flags, "");
        assert_eq!(Signature::of(&LOOKUP).flags, "no-writes");
    }
}
