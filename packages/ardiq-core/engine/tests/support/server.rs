//! A real server in a separate directory, with a Unix socket. It ends with the test.

use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use tempfile::TempDir;

use super::LIMIT;

/// See the module.
pub struct Server {
    dir: TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// Start the server with additional options.
    pub fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self { dir, options: options.iter().map(ToString::to_string).collect(), process: None };
        server.revive();
        server
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket())
    }

    fn socket(&self) -> String {
        self.dir.path().join("s").display().to_string()
    }

    /// Kill it, like a crash of the machine.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Start it, for the first time or again, with its directory.
    pub fn revive(&mut self) {
        let mut process = self.spawn();
        let output = BufReader::new(process.stdout.take().unwrap());
        self.process = Some(process);
        let (sender, ready) = channel();
        // Read the pipe to the end, so that the server never blocks on its log.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.contains("eady to accept connections") {
                    let _ = sender.send(());
                }
            }
        });
        ready.recv_timeout(LIMIT).expect("the server did not get ready");
    }

    /// Freeze it. As in a network partition, connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Let it continue.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let process = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &process]).status().unwrap().success());
    }

    fn spawn(&self) -> Child {
        let named = std::env::var("ARDIQ_TEST_SERVER_BIN").ok().filter(|name| !name.is_empty());
        let candidates = named.map_or_else(|| vec!["redis-server".into(), "valkey-server".into()], |name| vec![name]);
        for binary in &candidates {
            let mut command = Command::new(binary);
            command.args(["--port", "0", "--save", "", "--logfile", "", "--unixsocket", &self.socket()]);
            command.arg("--dir").arg(self.dir.path()).args(&self.options);
            match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
                Ok(process) => return process,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => panic!("{binary} cannot be started: {error}"),
            }
        }
        panic!("no server to test with: none of {candidates:?} is installed; set ARDIQ_TEST_SERVER_BIN")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
