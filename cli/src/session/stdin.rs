//! Our stdin, read on a thread of its own: a blocked read must not keep the process from ending.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Starts reading; the channel closes at the end of input.
pub(super) fn start() -> io::Result<mpsc::Receiver<Bytes>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut buffer = vec![0; 32 << 10];
            let mut stdin = io::stdin().lock();
            loop {
                match stdin.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) => {
                        if sender
                            .blocking_send(Bytes::copy_from_slice(&buffer[..length]))
                            .is_err()
                        {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // A closed or failing stdin is an empty one.
                    Err(_) => return,
                }
            }
        })?;
    Ok(receiver)
}
