// SPDX-License-Identifier: Apache-2.0
//! Output of many nodes as lines, each after the name of its node.
//!
//! A pipe gets the bytes of the node unchanged. A terminal gets control characters written out, because what runs on a
//! node must not be able to move the cursor of the person who looks.

use std::collections::HashMap;
use std::io::{self, Write};

use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::outcome::Outcome;

use super::follow::Sink;
use super::show::size;

/// A line longer than this is cut into lines: a node that never ends its line must not fill our memory.
const LONGEST_LINE_BYTES: usize = 64 * 1024;

/// One of our own two streams.
#[derive(Debug)]
pub(crate) struct Stream<W> {
    /// Where it goes.
    pub(crate) out: W,
    /// A person reads it.
    pub(crate) is_terminal: bool,
}

/// Writes lines.
#[derive(Debug)]
pub(crate) struct Lines<O: Write, E: Write> {
    stdout: Stream<O>,
    stderr: Stream<E>,
    /// Lines that have not ended, per node: stdout, stderr.
    begun: HashMap<String, [Vec<u8>; 2]>,
}

impl<O: Write, E: Write> Lines<O, E> {
    /// Writes to these two.
    pub(crate) fn new(stdout: Stream<O>, stderr: Stream<E>) -> Self {
        Self { stdout, stderr, begun: HashMap::new() }
    }

    fn line(&mut self, node: &str, stream: v1::OutputStream, line: &[u8]) -> io::Result<()> {
        if stream == v1::OutputStream::Stderr {
            write_line(&mut self.stderr, node, line)
        } else {
            write_line(&mut self.stdout, node, line)
        }
    }
}

fn write_line<W: Write>(stream: &mut Stream<W>, node: &str, line: &[u8]) -> io::Result<()> {
    write!(stream.out, "{}: ", Escaped(node))?;
    if stream.is_terminal {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        for (index, part) in text.split('\t').enumerate() {
            write!(stream.out, "{}{}", if index == 0 { "" } else { "\t" }, Escaped(part))?;
        }
    } else {
        stream.out.write_all(line)?;
    }
    stream.out.write_all(b"\n")
}

const fn index(stream: v1::OutputStream) -> usize {
    matches!(stream, v1::OutputStream::Stderr) as usize
}

impl<O: Write, E: Write> Sink for Lines<O, E> {
    fn output(&mut self, node: &str, stream: v1::OutputStream, data: &[u8]) -> io::Result<()> {
        let mut begun = self.begun.get_mut(node).map_or_else(Vec::new, |both| std::mem::take(&mut both[index(stream)]));
        let mut rest = data;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if begun.is_empty() {
                self.line(node, stream, &rest[..end])?;
            } else {
                begun.extend_from_slice(&rest[..end]);
                self.line(node, stream, &begun)?;
                begun.clear();
            }
            rest = &rest[end + 1..];
        }
        begun.extend_from_slice(rest);
        if begun.len() >= LONGEST_LINE_BYTES {
            self.line(node, stream, &begun)?;
            begun.clear();
        }
        if !begun.is_empty() {
            self.begun.entry(node.to_owned()).or_default()[index(stream)] = begun;
        }
        Ok(())
    }

    fn ended(&mut self, node: &str, _outcome: &Outcome, missing: [u64; 2]) -> io::Result<()> {
        let [stdout, stderr] = self.begun.remove(node).unwrap_or_default();
        if !stdout.is_empty() {
            self.line(node, v1::OutputStream::Stdout, &stdout)?;
        }
        if !stderr.is_empty() {
            self.line(node, v1::OutputStream::Stderr, &stderr)?;
        }
        for (name, bytes) in [("stdout", missing[0]), ("stderr", missing[1])] {
            if bytes > 0 {
                self.stdout.out.flush()?;
                writeln!(self.stderr.out, "{}: {} of {name} were not kept", Escaped(node), size(bytes))?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.out.flush()?;
        self.stderr.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_types::outcome::Ending;

    const OUT: v1::OutputStream = v1::OutputStream::Stdout;
    const ERR: v1::OutputStream = v1::OutputStream::Stderr;

    fn written(is_terminal: bool, pieces: &[(&str, v1::OutputStream, &[u8])]) -> (Vec<u8>, Vec<u8>) {
        let stream = || Stream { out: Vec::new(), is_terminal };
        let mut lines = Lines::new(stream(), stream());
        for (node, stream, data) in pieces {
            lines.output(node, *stream, data).expect("a vector takes everything");
        }
        for node in ["a", "b"] {
            lines.ended(node, &Outcome::bare(Ending::Exited { code: 0 }), [0, 0]).expect("a vector takes everything");
        }
        (lines.stdout.out, lines.stderr.out)
    }

    #[test]
    fn lines_of_nodes_never_mix() {
        let pieces: [(&str, _, &[u8]); 5] =
            [("a", OUT, b"one\ntw"), ("b", OUT, b"B"), ("a", ERR, b"oh\n"), ("a", OUT, b"o\n\n"), ("b", OUT, b"BB")];
        let (stdout, stderr) = written(false, &pieces);
        assert_eq!(String::from_utf8(stdout).expect("text"), "a: one\na: two\na: \nb: BBB\n");
        assert_eq!(String::from_utf8(stderr).expect("text"), "a: oh\n");
    }

    #[test]
    fn a_pipe_gets_the_bytes_and_a_terminal_does_not() {
        let hostile = b"\x1b[2Jx\ty\xff\r\n";
        assert_eq!(written(false, &[("a", OUT, hostile)]).0, [b"a: ", &hostile[..]].concat());
        assert_eq!(written(true, &[("a", OUT, hostile)]).0, "a: \\u{1b}[2Jx\ty\u{fffd}\n".as_bytes());
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let piece = vec![b'x'; LONGEST_LINE_BYTES];
        let mut lines =
            Lines::new(Stream { out: Vec::new(), is_terminal: false }, Stream { out: Vec::new(), is_terminal: false });
        for _ in 0..4 {
            lines.output("a", OUT, &piece).expect("a vector takes everything");
        }
        assert_eq!(lines.stdout.out.len(), 4 * (LONGEST_LINE_BYTES + "a: \n".len()));
    }
}
