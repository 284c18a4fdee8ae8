// SPDX-License-Identifier: Apache-2.0
//! Connections that end before there is an answer, as those do that a controller had accepted when it was told to end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use windlass_tests::controller::Controller;
use windlass_tests::process::{Answer, run};

/// A frame of HTTP/2 begins with its length in three bytes, its type, flags and stream.
const FRAME_HEAD: usize = 9;

/// The type of the frame with which an answer begins.
const HEADERS: u8 = 1;

/// Stands before the controller's socket. Of the first connection all questions are passed on, and no answer.
struct Wall {
    socket: PathBuf,
    connections: Arc<AtomicUsize>,
}

impl Wall {
    fn before(controller: &Controller) -> Self {
        let (socket, inner) = (controller.directory().join("wall.sock"), controller.socket());
        let listener = UnixListener::bind(&socket).expect("a socket");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut outside, _)) = listener.accept().await {
                let nth = count.fetch_add(1, Ordering::SeqCst);
                let mut inside = UnixStream::connect(&inner).await.expect("the controller is there");
                tokio::spawn(async move {
                    if nth == 0 {
                        return swallow(outside, inside).await;
                    }
                    let _either_ended = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Self { socket, connections }
    }

    async fn ask(&self, controller: &Controller, words: &str) -> Answer {
        let words: Vec<_> = words.split_whitespace().collect();
        let mut command = controller.cli_command(&words);
        run(command.env("WINDLASS_SOCKET", &self.socket)).await
    }
}

/// Passes on everything until the controller answers, and then ends both connections.
async fn swallow(outside: UnixStream, inside: UnixStream) {
    let (mut asked, mut told) = outside.into_split();
    let (mut answers, mut questions) = inside.into_split();
    let passed_on = tokio::spawn(async move { tokio::io::copy(&mut asked, &mut questions).await });
    loop {
        let mut head = [0; FRAME_HEAD];
        answers.read_exact(&mut head).await.expect("a frame");
        if head[3] == HEADERS {
            break;
        }
        let mut frame = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        answers.read_exact(&mut frame).await.expect("all of it");
        told.write_all(&[&head[..], &frame].concat()).await.expect("it listens");
    }
    passed_on.abort();
    let _ended = passed_on.await;
}

#[tokio::test]
async fn a_question_whose_connection_ends_before_the_answer_is_asked_again() {
    let controller = Controller::start().await;
    let _token = controller.words("token create node1").await.ok();
    let wall = Wall::before(&controller);
    let tokens = wall.ask(&controller, "get tokens -o json").await.json();
    assert_eq!(tokens["items"][0]["node"], "node1", "{tokens}");
    assert_eq!(wall.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_change_whose_connection_ends_before_the_answer_is_made_once_and_the_loss_is_told() {
    let controller = Controller::start().await;
    let wall = Wall::before(&controller);
    let lost = wall.ask(&controller, "token create node1").await;
    lost.assert_refused(69, "token", "try again");
    assert_eq!(wall.connections.load(Ordering::SeqCst), 1);
    let tokens = controller.words("get tokens -o json").await.json();
    assert_eq!(tokens["items"].as_array().map(Vec::len), Some(1), "{tokens}");
}
