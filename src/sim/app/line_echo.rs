//! The TCP side of the echo application: each line comes back with version and cluster before it.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::EchoSettings;

/// A line longer than this ends the connection, in bytes.
const LINE_LIMIT: u64 = 64 * 1024;

/// Serves one connection until the client leaves, sends too long a line, or `stop` is cancelled.
pub(super) async fn serve(stream: TcpStream, settings: &EchoSettings, stop: CancellationToken) {
    // Biased: lines that arrive after the stop are not answered.
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        ended = echo(stream, settings) => if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        },
    }
}

async fn echo(mut stream: TcpStream, settings: &EchoSettings) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    let prefix = format!("{} {} ", settings.version, settings.cluster);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = (&mut read).take(LINE_LIMIT).read_until(b'\n', &mut line).await?;
        if count == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        if !whole && count as u64 == LINE_LIMIT {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the line is too long"));
        }
        let mut answer = prefix.clone().into_bytes();
        answer.extend_from_slice(&line);
        if !whole {
            answer.push(b'\n');
        }
        write.write_all(&answer).await?;
    }
}
