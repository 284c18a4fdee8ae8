// SPDX-License-Identifier: Apache-2.0
//! Lines of 80 columns where a person reads. A pipe gets each line whole: who searches it finds what was said.

use windlass_plan::text::wrapped_at;

/// Text whose lines are broken at spaces, each continued a little further in than it begins. What is to be typed next stays
/// on one line, so that it can be copied.
pub(crate) fn folded(text: &str) -> String {
    let mut folded = String::new();
    for line in text.lines() {
        let words = line.trim_start_matches(' ');
        if words.starts_with("next: ") {
            folded.push_str(line);
            folded.push('\n');
        } else {
            // Writing to a String cannot fail.
            let _ = wrapped_at(&mut folded, line.len() - words.len(), words);
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_where_they_begin_and_commands_are_not() {
        let long = "waits: the window Tue 02:00-06:00 Europe/Berlin is closed; it opens Tue 02:00";
        let next = format!("next: windlass run retry r7, or windlass node release {} --reason TEXT", "n".repeat(30));
        let text = format!("run r7\n  waiting    boot/node1\n             {long}\n\n{next}\n");
        let told = folded(&text);
        assert!(told.lines().filter(|line| !line.starts_with("next: ")).all(|line| line.len() <= 80), "{told}");
        assert_eq!(
            told,
            format!(
                "run r7\n  waiting    boot/node1\n             waits: the window Tue 02:00-06:00 Europe/Berlin is closed; \
                 it opens\n               Tue 02:00\n\n{next}\n"
            )
        );
    }
}
