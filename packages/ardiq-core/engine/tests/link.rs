//! The link respects the patience of each caller.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::sync::Arc;
use std::time::Duration;

use ardiq_engine::error::Error;
use ardiq_engine::link::{LARGE, Link, Patience, RESPONSE_LIMIT};
use ardiq_engine::scripts::{FOR_WORKERS, look, produce};
use ardiq_engine::url;
use support::{LIMIT, Queue, call_of, job, patience};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn a_hasty_caller_is_not_held_up_by_a_patient_one_while_the_server_is_away() {
    let queue = Queue::start();
    queue.now_ms().await;
    queue.server.freeze();
    let ping = redis::cmd("PING");
    let second = Duration::from_secs(1);
    let patient = queue.link.command(&ping, Patience::Endless);
    let hasty = async {
        // It detects the dead connection only after the patient caller has begun to make a new one.
        sleep(second).await;
        timeout(LIMIT, queue.link.command(&ping, Patience::within(RESPONSE_LIMIT + second))).await
    };
    tokio::select! {
        answer = patient => panic!("the server is frozen, and yet: {answer:?}"),
        answer = hasty => assert!(matches!(answer, Ok(Err(Error::Unreachable { .. }))), "{answer:?}"),
    }
}

#[tokio::test]
async fn a_subscription_that_the_server_refuses_takes_nothing_else_down() {
    let queue = Queue::start();
    let _: String = queue.ask("ACL", ("SETUSER", "default", "resetchannels", "&allowed")).await;
    for _ in 0..2 {
        let refused = queue.link.subscribe("forbidden", patience()).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "told each time: {refused:?}");
    }
    queue.listen("allowed").await;
    let _: i64 = queue.ask("CLIENT", ("KILL", "TYPE", "pubsub")).await;
    queue.link.probe(patience()).await.unwrap();
    let _: i64 = queue.ask("PUBLISH", ("allowed", "heard")).await;
    assert_eq!(queue.next_push().await, ("allowed".to_owned(), b"heard".to_vec()));
}

#[tokio::test]
async fn a_right_to_a_channel_that_is_withdrawn_takes_nothing_else_down() {
    let queue = Queue::start();
    queue.listen("news").await;
    let _: String = queue.ask("ACL", ("SETUSER", "default", "resetchannels")).await;
    let address = url::parse(&queue.server.url()).unwrap();
    let other = Link::new(address, Arc::clone(&queue.keys), LIMIT, Arc::new(|_, _| {}));
    for kind in ["pubsub", "normal"] {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg(kind);
        other.command(&kill, patience()).await.unwrap();
        queue.link.probe(patience()).await.unwrap();
    }
    queue.now_ms().await;
    assert!(!queue.link.is_subscribed_to("news"), "callers must look for themselves");
    let _: String = queue.ask("ACL", ("SETUSER", "default", "allchannels")).await;
    queue.listen("news").await;
    let _: i64 = queue.ask("PUBLISH", ("news", "heard")).await;
    assert_eq!(queue.next_push().await, ("news".to_owned(), b"heard".to_vec()));
}

#[tokio::test]
async fn who_may_not_write_can_look() {
    let queue = Queue::start();
    queue.enqueue(&[job("a")]).await;
    let _: String = queue.ask("ACL", ("SETUSER", "default", "-@write")).await;
    let address = url::parse(&queue.server.url()).unwrap();
    let other = Link::new(address, Arc::clone(&queue.keys), LIMIT, Arc::new(|_, _| {}));
    assert_eq!(look::depth(&other, &queue.keys, patience()).await.unwrap(), 1);
    let refused = produce::enqueue(&other, &queue.keys, &call_of(&[job("b")]), patience()).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn after_a_connection_was_given_up_the_subscriptions_come_back_without_another_call() {
    let queue = Queue::start();
    queue.listen("news").await;
    let keeping = queue.link.keep();
    let story = async {
        let mut sessions = queue.link.sessions();
        queue.server.freeze();
        let ping = redis::cmd("PING");
        let refused = queue.link.command(&ping, Patience::within(RESPONSE_LIMIT + Duration::from_millis(500))).await;
        assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
        let before = *sessions.borrow();
        queue.server.thaw();
        // Well before the periodic check.
        let back = sessions.wait_for(|number| *number > before);
        assert!(timeout(RESPONSE_LIMIT / 2, back).await.is_ok(), "the link has not reconnected");
    };
    tokio::select! {
        () = keeping => unreachable!("it never ends"),
        () = story => {}
    }
}

/// Forward everything in both directions. A large reply cuts this connection, and all others too if
/// `cuts` notifies them.
async fn cut_large(program: TcpStream, server: UnixStream, cuts: Arc<Notify>, cuts_all: bool) {
    let ((mut from_program, mut to_program), (mut from_server, mut to_server)) =
        (program.into_split(), server.into_split());
    let replies = async {
        let (mut piece, mut bytes) = (vec![0; LARGE], 0);
        while let Ok(length @ 1..) = from_server.read(&mut piece).await {
            bytes += length;
            if bytes > 10 * LARGE {
                if cuts_all {
                    cuts.notify_waiters();
                }
                return;
            }
            to_program.write_all(&piece[..length]).await.unwrap();
        }
    };
    tokio::select! {
        _ = copy(&mut from_program, &mut to_server) => {}
        () = cuts.notified() => {}
        () = replies => {}
    }
}

#[tokio::test]
async fn a_value_is_the_reason_for_cuts_only_if_other_connections_are_not_cut() {
    for cuts_all in [false, true] {
        let queue = Queue::start();
        let server = queue.server.url().replace("unix://", "");
        let line = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", line.local_addr().unwrap());
        let link = Link::new(url::parse(&url).unwrap(), Arc::clone(&queue.keys), LIMIT, Arc::new(|_, _| {}));
        let cuts = Arc::new(Notify::new());
        let serving = async {
            loop {
                let (program, _) = line.accept().await.unwrap();
                let server = UnixStream::connect(&server).await.unwrap();
                tokio::spawn(cut_large(program, server, Arc::clone(&cuts), cuts_all));
            }
        };
        let _: String = queue.ask("SET", ("large", vec![0_u8; 20 * LARGE])).await;
        let mut get = redis::cmd("GET");
        get.arg("large");
        let refused = tokio::select! {
            () = serving => unreachable!("it never ends"),
            refused = link.transfer(&get, Patience::Endless) => refused.unwrap_err(),
        };
        assert_eq!((refused.is_broken(), refused.is_about_this_call()), (!cuts_all, !cuts_all), "{refused}");
        assert!(refused.to_string().contains("8 connections"), "{refused}");
        assert_eq!(refused.to_string().contains("client-output-buffer-limit"), !cuts_all, "{refused}");
    }
}

/// Forward everything, the replies with a delay. A request for the key `bad` cuts the connection.
async fn cut_bad(program: TcpStream, server: UnixStream) {
    let ((mut from_program, mut to_program), (mut from_server, mut to_server)) =
        (program.into_split(), server.into_split());
    let requests = async {
        let mut piece = vec![0; LARGE];
        while let Ok(length @ 1..) = from_program.read(&mut piece).await {
            if piece[..length].windows(3).any(|word| word == b"bad") {
                return;
            }
            to_server.write_all(&piece[..length]).await.unwrap();
        }
    };
    let replies = async {
        let mut piece = vec![0; LARGE];
        while let Ok(length @ 1..) = from_server.read(&mut piece).await {
            sleep(Duration::from_millis(100)).await;
            to_program.write_all(&piece[..length]).await.unwrap();
        }
    };
    tokio::select! {
        () = requests => {}
        () = replies => {}
    }
}

/// A link whose connections come to a listener of the test, and the path of the server's socket.
async fn through_a_line(queue: &Queue) -> (TcpListener, String, Link) {
    let line = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", line.local_addr().unwrap());
    let link = Link::new(url::parse(&url).unwrap(), Arc::clone(&queue.keys), LIMIT, Arc::new(|_, _| {}));
    (line, queue.server.url().replace("unix://", ""), link)
}

#[tokio::test]
async fn a_value_on_a_connection_that_others_break_is_read_on_one_of_its_own() {
    let queue = Queue::start();
    let (line, server, link) = through_a_line(&queue).await;
    let serving = async {
        loop {
            let (program, _) = line.accept().await.unwrap();
            let server = UnixStream::connect(&server).await.unwrap();
            tokio::spawn(cut_bad(program, server));
        }
    };
    let get = |key: &str| {
        let mut get = redis::cmd("GET");
        get.arg(key);
        get
    };
    let (bad, fine) = (get("bad"), get("fine"));
    // Another one comes long before a reply does.
    let breaking = async || loop {
        let _ = timeout(Duration::from_millis(10), link.transfer(&bad, Patience::Endless)).await;
    };
    tokio::select! {
        () = serving => unreachable!("it never ends"),
        () = breaking() => unreachable!("it never ends"),
        read = link.transfer(&fine, Patience::Endless) => assert!(read.is_ok(), "{:?}", read.err()),
    }
}

/// Forward what a program sends at once, but hold a large value for this long, like a buffer on the
/// way that has accepted all of it.
async fn hold_large(program: TcpStream, server: UnixStream, held: Duration) {
    let ((mut from_program, mut to_program), (mut from_server, mut to_server)) =
        (program.into_split(), server.into_split());
    let (buffer, mut out) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::join!(
        async move {
            let mut piece = vec![0; LARGE];
            while let Ok(length @ 1..) = from_program.read(&mut piece).await {
                buffer.send(piece[..length].to_vec()).unwrap();
            }
        },
        async move {
            let mut is_held = false;
            while let Some(piece) = out.recv().await {
                let begins_large = piece.len() == LARGE && !std::mem::replace(&mut is_held, true);
                if begins_large {
                    // The whole value has been sent when the reply to the previous command is read.
                    sleep(Duration::from_millis(500)).await;
                }
                to_server.write_all(&piece).await.unwrap();
                if begins_large {
                    sleep(held).await;
                }
            }
        },
        async move {
            let _ = copy(&mut from_server, &mut to_program).await;
        },
    );
}

#[tokio::test]
async fn an_answer_does_not_end_the_patience_with_the_large_value_behind_it() {
    let queue = Queue::start();
    let (line, server, link) = through_a_line(&queue).await;
    let serving = async {
        for connections in 1.. {
            let (program, _) = line.accept().await.unwrap();
            assert!(connections <= 2, "the connection of the large value was given up");
            let server = UnixStream::connect(&server).await.unwrap();
            tokio::spawn(hold_large(program, server, RESPONSE_LIMIT + Duration::from_secs(1)));
        }
    };
    let mut set = redis::cmd("SET");
    set.arg("large").arg(vec![0_u8; 10 * LARGE]);
    // The script is loaded ahead of the value, and that reply arrives at once.
    tokio::select! {
        () = serving => unreachable!("it never ends"),
        set = link.call_sized(FOR_WORKERS[0], &set, 10 * LARGE, patience()) => assert!(set.is_ok(), "{set:?}"),
    }
}
