//! Just enough of HTTP/1.1 to know where a message ends. Bytes go through unchanged: S3 signs most of them.

use std::io::{self, BufRead, Read};

/// No header of ours or of the server is longer.
const LONGEST_HEAD: usize = 64 * 1024;

/// A request or an answer, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// First line and headers, with the empty line.
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// The first line, such as `PUT /bucket/key HTTP/1.1`.
    pub(super) fn first_line(&self) -> String {
        let end = self.head.iter().position(|byte| *byte == b'\r').unwrap_or(self.head.len());
        String::from_utf8_lossy(&self.head[..end]).into_owned()
    }

    pub(super) fn method(&self) -> String {
        self.first_line().split(' ').next().unwrap_or_default().to_owned()
    }

    /// Whether the sender closes the connection after it.
    pub(super) fn is_last(&self) -> bool {
        header(&self.head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        [&self.head[..], &self.body].concat()
    }
}

/// A request, or nothing where the client has ended the connection.
pub(super) fn read_request(from: &mut impl BufRead) -> io::Result<Option<Message>> {
    let Some(head) = read_head(from)? else { return Ok(None) };
    let body = read_body(from, &head, false)?;
    Ok(Some(Message { head, body }))
}

/// The answer to a request of this method.
pub(super) fn read_answer(from: &mut impl BufRead, method: &str) -> io::Result<Message> {
    let head = read_head(from)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let status = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
    let has_no_body = method == "HEAD" || status == "204" || status == "304" || status.starts_with('1');
    let body = if has_no_body { Vec::new() } else { read_body(from, &head, true)? };
    Ok(Message { head, body })
}

/// An answer of our own, in the form that S3 gives to errors.
pub(super) fn error_answer(status: u16) -> Vec<u8> {
    let (name, code) = match status {
        503 => ("Service Unavailable", "SlowDown"),
        _ => ("Internal Server Error", "InternalError"),
    };
    let body = format!("<Error><Code>{code}</Code><Message>a test asked for it</Message></Error>");
    format!(
        "HTTP/1.1 {status} {name}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn read_head(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        from.read_until(b'\n', &mut head)?;
        if head.len() == before {
            return if head.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if head.len() > LONGEST_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a head of HTTP without an end"));
        }
        if &head[before..] == b"\r\n" {
            return Ok(Some(head));
        }
    }
}

fn header(head: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    text.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

fn read_body(from: &mut impl BufRead, head: &[u8], until_end: bool) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if header(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        read_chunks(from, &mut body)?;
    } else if let Some(length) = header(head, "content-length") {
        let length: u64 =
            length.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a bad length"))?;
        if from.take(length).read_to_end(&mut body)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    } else if until_end {
        from.read_to_end(&mut body)?;
    }
    Ok(body)
}

/// Chunks with their frames, up to the empty line after the last.
fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "a bad chunk");
    loop {
        let start = body.len();
        from.read_until(b'\n', body)?;
        let line = String::from_utf8_lossy(&body[start..]).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| bad())?;
        if size == 0 {
            break;
        }
        let wanted = size + 2;
        if from.take(wanted).read_to_end(body)? as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    loop {
        let start = body.len();
        from.read_until(b'\n', body)?;
        match &body[start..] {
            b"" => return Err(io::ErrorKind::UnexpectedEof.into()),
            b"\r\n" => return Ok(()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> io::Result<Option<Message>> {
        read_request(&mut text.as_bytes())
    }

    #[test]
    fn messages_end_where_their_length_says() {
        let mut both = &b"PUT /b/k HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"[..];
        let first = read_request(&mut both).unwrap().unwrap();
        assert_eq!((first.method().as_str(), &first.body[..]), ("PUT", &b"abc"[..]));
        let second = read_request(&mut both).unwrap().unwrap();
        assert_eq!((second.first_line().as_str(), second.body.len()), ("GET / HTTP/1.1", 0));
        assert_eq!(read_request(&mut both).unwrap(), None);
    }

    #[test]
    fn chunks_are_kept_with_their_frames() {
        let text =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\nrest";
        let mut from = text.as_bytes();
        let answer = read_answer(&mut from, "GET").unwrap();
        assert_eq!(answer.body, b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n");
        assert_eq!(from, b"rest");
    }

    #[test]
    fn an_answer_to_head_has_no_body_whatever_its_length_says() {
        let mut from = &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"[..];
        assert!(read_answer(&mut from, "HEAD").unwrap().body.is_empty());
        let mut from = &b"HTTP/1.1 204 No Content\r\n\r\n"[..];
        assert!(read_answer(&mut from, "DELETE").unwrap().body.is_empty());
    }

    #[test]
    fn a_message_that_breaks_off_is_an_error() {
        assert!(request("PUT / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc").is_err());
        assert!(request("PUT / HTTP/1.1\r\n").is_err());
        assert!(read_answer(&mut &b""[..], "GET").is_err());
    }

    #[test]
    fn an_error_of_ours_is_a_whole_answer() {
        let answer = read_answer(&mut &error_answer(503)[..], "GET").unwrap();
        assert!(answer.first_line().contains("503"));
        assert!(String::from_utf8(answer.body).unwrap().contains("SlowDown"));
    }
}
