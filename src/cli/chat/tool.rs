//! Running a tool: a command whose input is the call's arguments and whose output is the result.
//!
//! Whatever happens becomes text for the model: a tool that fails, hangs or prints garbage is
//! reported to it as such, so that it can try something else, and to the person.

use crate::cli::interrupt;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// More than this of a tool's output helps no model: 200,000 bytes are some 50,000 tokens.
const MOST_OUTPUT: usize = 200_000;

/// How a run ended.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// Done; the output.
    Output(String),
    /// Not done: what to tell the model and the person, in one sentence and the output so far.
    Failed(String),
    /// The person pressed Ctrl-C.
    Interrupted,
}

/// Runs `command` in a shell with `arguments` on its standard input, for at most `limit`.
pub fn run(command: &str, arguments: &str, limit: Duration) -> Outcome {
    let mut child = match shell(command).spawn() {
        Ok(child) => child,
        Err(error) => return Outcome::Failed(format!("the tool could not be started: {error}")),
    };
    let (output, errors) = match attend(&mut child, arguments) {
        Ok(collected) => collected,
        Err(error) => {
            stop(&mut child);
            return Outcome::Failed(format!("the tool could not be listened to: {error}"));
        }
    };
    let end = wait(&mut child, limit);
    stop(&mut child);
    // Whoever inherited the pipe may hold it open, so what came until now has to do.
    let [output, errors] = [output, errors].map(|pipe| pipe.gather(Duration::from_millis(200)));
    match end {
        End::Interrupted => Outcome::Interrupted,
        End::Status(status) if status.success() => understood(output),
        End::Status(status) => Outcome::Failed(report(
            &format!("the tool failed ({status})"),
            &output,
            &errors,
        )),
        End::TimedOut => {
            let what = format!(
                "the tool was stopped after {} s without an end",
                limit.as_secs()
            );
            Outcome::Failed(report(&what, &output, &errors))
        }
    }
}

enum End {
    Status(ExitStatus),
    TimedOut,
    Interrupted,
}

fn shell(command: &str) -> Command {
    let (shell, flag) = if cfg!(windows) {
        ("cmd", "/C")
    } else {
        ("sh", "-c")
    };
    let mut process = Command::new(shell);
    process
        .args([flag, command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Its own group: Ctrl-C reaches us alone, and stopping it stops what it started.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut process, 0);
    process
}

/// Gives a tool its input, and collects what it writes and what it complains of. In threads, because a tool may write before it has
/// read all of its input.
fn attend(child: &mut Child, arguments: &str) -> io::Result<(Collected, Collected)> {
    let input = child.stdin.take();
    let arguments = arguments.to_string();
    thread::Builder::new().spawn(move || {
        if let Some(mut input) = input {
            // A tool that reads nothing closes the pipe: no error of ours.
            let _ = input.write_all(arguments.as_bytes());
        }
    })?;
    Ok((
        read_all(child.stdout.take())?,
        read_all(child.stderr.take())?,
    ))
}

/// Collects a stream in the background: of very much, the beginning. Delivers what came, also when it never ends.
fn read_all(stream: Option<impl Read + Send + 'static>) -> io::Result<Collected> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let Some(mut stream) = stream else { return };
        let mut buffer = [0; 8192];
        let mut sent = 0;
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            // The rest is read too: a tool that cannot write does not end.
            if sent > MOST_OUTPUT {
                continue;
            }
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
            sent += count;
        }
    })?;
    Ok(Collected { receiver })
}

struct Collected {
    receiver: mpsc::Receiver<Vec<u8>>,
}

impl Collected {
    /// Everything until the end, or until nothing more comes for `patience`.
    fn gather(self, patience: Duration) -> Vec<u8> {
        let mut all = Vec::new();
        while let Ok(piece) = self.receiver.recv_timeout(patience) {
            all.extend(piece);
        }
        all
    }
}

fn wait(child: &mut Child, limit: Duration) -> End {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return End::Status(status),
            _ if interrupt::requested() => return End::Interrupted,
            _ if start.elapsed() >= limit => return End::TimedOut,
            _ => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Kills the tool and everything it started, and lets the system forget it.
fn stop(child: &mut Child) {
    #[cfg(unix)]
    {
        let group = nix::unistd::Pid::from_raw(child.id() as i32);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn understood(mut output: Vec<u8>) -> Outcome {
    let cut = output.len() > MOST_OUTPUT;
    if let Err(error) = std::str::from_utf8(&output)
        && cut
        && error.error_len().is_none()
    {
        // The end of what was gathered, in the middle of a character.
        output.truncate(error.valid_up_to());
    }
    match String::from_utf8(output) {
        Ok(text) if cut => Outcome::Output(format!(
            "{}\n[cut after {MOST_OUTPUT} bytes]",
            shortened(&text, MOST_OUTPUT)
        )),
        Ok(text) => Outcome::Output(text.trim_end_matches('\n').to_string()),
        Err(error) => Outcome::Failed(format!(
            "the tool printed {} bytes that are not UTF-8 text",
            error.as_bytes().len()
        )),
    }
}

fn report(what: &str, output: &[u8], errors: &[u8]) -> String {
    let mut report = what.to_string();
    for (name, bytes) in [("errors", errors), ("output", output)] {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim();
        if !text.is_empty() {
            report += &format!("; {name}: {}", shortened(text, 2000));
        }
    }
    report
}

/// The first `most` bytes, at a character's boundary.
fn shortened(text: &str, most: usize) -> &str {
    let ends = text
        .char_indices()
        .map(|(start, character)| start + character.len_utf8());
    let end = ends.take_while(|&end| end <= most).last();
    &text[..end.unwrap_or(0)]
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn quickly(command: &str, arguments: &str) -> Outcome {
        run(command, arguments, Duration::from_secs(10))
    }

    #[test]
    fn arguments_go_in_and_the_result_comes_out() {
        let outcome = quickly("tr a-z A-Z", r#"{"city":"Bern"}"#);
        assert_eq!(outcome, Outcome::Output(r#"{"CITY":"BERN"}"#.into()));
        assert_eq!(quickly("true", "unread"), Outcome::Output(String::new()));
    }

    #[test]
    fn more_than_a_pipe_holds_goes_both_ways() {
        let text = "x".repeat(150_000);
        assert_eq!(quickly("cat", &text), Outcome::Output(text));
    }

    #[test]
    fn endless_output_is_cut() {
        let Outcome::Output(text) = quickly("head -c 900000 /dev/zero | tr '\\0' x", "") else {
            panic!("not an output");
        };
        assert!(text.ends_with("[cut after 200000 bytes]") && text.len() < 200_100);
    }

    #[test]
    fn output_without_end_takes_no_memory() {
        let collected = read_all(Some(io::repeat(b'x').take(1 << 30))).unwrap();
        let bytes = collected.gather(Duration::from_secs(60));
        assert!((MOST_OUTPUT + 1..=MOST_OUTPUT + 8192).contains(&bytes.len()));
    }

    #[test]
    fn a_cut_inside_a_character_is_no_reason_to_fail() {
        // Whatever the pieces, one of three phases has the end of a piece inside the three bytes of a character.
        for phase in ["", "x", "xx"] {
            let command = format!("printf '{phase}'; yes '\u{20ac}' | tr -d '\n' | head -c 900000");
            let Outcome::Output(text) = quickly(&command, "") else {
                panic!("not an output with {phase:?}");
            };
            assert!(text.ends_with("\u{20ac}\n[cut after 200000 bytes]"));
        }
    }

    #[test]
    fn failures_say_what_happened() {
        let Outcome::Failed(report) = quickly("echo half; echo broken >&2; exit 3", "{}") else {
            panic!("not a failure");
        };
        assert!(report.contains("exit status: 3"), "{report}");
        assert!(
            report.contains("broken") && report.contains("half"),
            "{report}"
        );
        assert!(matches!(
            quickly("no-such-program-here", ""),
            Outcome::Failed(_)
        ));
        let Outcome::Failed(report) = quickly("printf '\\377\\376'", "") else {
            panic!("not a failure");
        };
        assert!(report.contains("not UTF-8"), "{report}");
    }

    #[test]
    fn a_tool_that_hangs_is_stopped_with_its_children() {
        let start = Instant::now();
        let marker = format!("{}", 70_000 + std::process::id());
        let command = format!("echo begun; sleep {marker} & sleep {marker}");
        let outcome = run(&command, "", Duration::from_secs(1));
        let Outcome::Failed(report) = outcome else {
            panic!("not a failure");
        };
        assert!(
            report.contains("after 1 s") && report.contains("begun"),
            "{report}"
        );
        assert!(start.elapsed() < Duration::from_secs(5));
        let alive = Command::new("pgrep")
            .args(["-f", &format!("sleep {marker}")])
            .output();
        assert!(alive.is_ok_and(|found| found.stdout.is_empty()));
    }
}
