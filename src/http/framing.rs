//! Where one request ends and the next begins in what a client sends.
//!
//! Bytes are followed, never changed nor judged: what is malformed is the framework's to refuse. Where this here takes an end
//! for another than the framework does, the framework is handed too little or too much at once, which costs time or memory, and
//! nothing else. So it knows no more of HTTP/1 than where things end:
//! - a head, at its first empty line (a line may end in LF alone); empty lines before it belong to it;
//! - a body, after as many bytes as `Content-Length` says, or behind the last chunk and its trailers;
//! - what follows a head that asks for another protocol, never.

/// Of each line so much is looked at where it comes in pieces: the longest that says anything here is shorter, unless it is
/// filled up with blanks.
const LINE_BYTES: usize = 64;

/// How far the request is that is being followed. See the module.
#[derive(Debug, Default)]
pub(super) struct Framing {
    at: At,
    /// Something of it has come.
    begun: bool,
    head_bytes: usize,
    head: Head,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Head,
    /// So many bytes of its body are to come.
    Body(u64),
    /// In the line that says how long the next chunk is.
    ChunkSize(ChunkSize),
    /// So many bytes of a chunk and its line end are to come.
    Chunk(u64),
    /// Behind the last chunk.
    Trailers { line_is_empty: bool },
    /// Whatever comes belongs to it.
    Endless,
}

#[derive(Debug, Default, Clone, Copy)]
struct ChunkSize {
    bytes: u64,
    /// What follows on the line is no number any more.
    is_read: bool,
}

/// What a head has said so far.
#[derive(Debug, Default)]
struct Head {
    /// Begin of the line that has not ended; only where it came in pieces.
    line: Vec<u8>,
    /// The request line has been seen.
    asked: bool,
    body_bytes: u64,
    chunked: bool,
    endless: bool,
}

/// What of some bytes belongs to the request that is being followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// So many, from the first on.
    pub(super) bytes: usize,
    /// It ends with them.
    pub(super) ends: bool,
}

impl Framing {
    /// Follows the request through what comes next of it, no further than to its end.
    pub(super) fn cut(&mut self, bytes: &[u8]) -> Cut {
        if !self.begun {
            *self = Self { begun: !bytes.is_empty(), ..Self::default() };
        }
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let step = self.step(rest);
            taken += step.bytes;
            if step.ends {
                self.begun = false;
                return Cut { bytes: taken, ends: true };
            }
        }
        Cut { bytes: taken, ends: false }
    }

    /// Bytes of the present head that were followed, or of the last one.
    pub(super) fn head_bytes(&self) -> usize {
        self.head_bytes
    }

    /// Some of a head has come, but not its end.
    pub(super) fn is_within_head(&self) -> bool {
        self.begun && matches!(self.at, At::Head)
    }

    /// So many bytes are sure to belong to the present request still.
    pub(super) fn announced(&self) -> usize {
        match self.at {
            At::Body(left) | At::Chunk(left) if self.begun => usize::try_from(left).unwrap_or(usize::MAX),
            At::Endless if self.begun => usize::MAX,
            _ => 0,
        }
    }

    fn step(&mut self, rest: &[u8]) -> Cut {
        match &mut self.at {
            At::Head => self.follow_head(rest),
            At::Body(left) => {
                let bytes = skip(left, rest);
                Cut { bytes, ends: *left == 0 }
            }
            At::Chunk(left) => {
                let bytes = skip(left, rest);
                if *left == 0 {
                    self.at = At::ChunkSize(ChunkSize::default());
                }
                Cut { bytes, ends: false }
            }
            At::ChunkSize(size) => {
                let Some(end) = line_end(rest) else {
                    size.read(rest);
                    return Cut { bytes: rest.len(), ends: false };
                };
                size.read(&rest[..end]);
                self.at = match size.bytes {
                    0 => At::Trailers { line_is_empty: true },
                    bytes => At::Chunk(bytes.saturating_add(2)),
                };
                Cut { bytes: end + 1, ends: false }
            }
            At::Trailers { line_is_empty } => {
                let Some(end) = line_end(rest) else {
                    *line_is_empty &= rest.iter().all(|&byte| byte == b'\r');
                    return Cut { bytes: rest.len(), ends: false };
                };
                let ends = *line_is_empty && rest[..end].iter().all(|&byte| byte == b'\r');
                *line_is_empty = true;
                Cut { bytes: end + 1, ends }
            }
            At::Endless => Cut { bytes: rest.len(), ends: false },
        }
    }

    fn follow_head(&mut self, rest: &[u8]) -> Cut {
        let mut taken = 0;
        while let Some(end) = line_end(&rest[taken..]) {
            let line = &rest[taken..taken + end];
            taken += end + 1;
            if self.head.ends_with(line) {
                self.head_bytes += taken;
                self.at = self.head.body();
                return Cut { bytes: taken, ends: matches!(self.at, At::Body(0)) };
            }
        }
        self.head.keep_begin(&rest[taken..]);
        self.head_bytes += rest.len();
        Cut { bytes: rest.len(), ends: false }
    }
}

impl Head {
    /// Takes in the rest of a line. Whether that is the empty one behind all others.
    fn ends_with(&mut self, line: &[u8]) -> bool {
        if self.line.is_empty() {
            return self.take(line);
        }
        self.keep_begin(line);
        let whole = std::mem::take(&mut self.line);
        self.take(&whole)
    }

    fn keep_begin(&mut self, piece: &[u8]) {
        let room = LINE_BYTES - self.line.len();
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn take(&mut self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return self.asked;
        }
        if !std::mem::replace(&mut self.asked, true) {
            self.endless = line.starts_with(b"CONNECT ");
        } else if let Some(value) = value_of(b"content-length:", line) {
            self.body_bytes = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok()).unwrap_or(0);
        } else if let Some(value) = value_of(b"transfer-encoding:", line) {
            self.chunked |= value.eq_ignore_ascii_case(b"chunked");
        } else if let Some(value) = value_of(b"upgrade:", line) {
            self.endless |= value.eq_ignore_ascii_case(b"websocket");
        }
        false
    }

    /// What follows it.
    fn body(&self) -> At {
        match self {
            Self { chunked: true, .. } => At::ChunkSize(ChunkSize::default()),
            Self { endless: true, .. } => At::Endless,
            Self { body_bytes, .. } => At::Body(*body_bytes),
        }
    }
}

impl ChunkSize {
    fn read(&mut self, piece: &[u8]) {
        for byte in piece {
            match char::from(*byte).to_digit(16).filter(|_| !self.is_read) {
                Some(digit) => self.bytes = self.bytes.saturating_mul(16).saturating_add(digit.into()),
                None => return self.is_read = true,
            }
        }
    }
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'\n')
}

/// What stands behind this name, in any case, and its colon.
fn value_of<'l>(name: &[u8], line: &'l [u8]) -> Option<&'l [u8]> {
    let (begin, value) = line.split_at_checked(name.len())?;
    begin.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// Counts `left` down by what comes of it; how much that is.
fn skip(left: &mut u64, rest: &[u8]) -> usize {
    let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
    *left -= bytes as u64;
    bytes
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A request, whole.
    pub(in crate::http) fn request() -> impl Strategy<Value = Vec<u8>> {
        let line_end = || prop_oneof![Just("\r\n"), Just("\n")];
        let header = prop_oneof![
            "[A-Z][a-z]{0,9}: [ -~]{0,80}",
            Just("Content-Lengthy: 7".to_owned()),
            Just("Upgrade: h2c".to_owned()),
            Just("Expect: 100-continue".to_owned()),
        ];
        let asked = (line_end(), prop_oneof![Just(""), Just("\r\n"), Just("\n\n")], "/[a-z]{0,20}", vec(header, 0..6));
        (asked, any::<prop::sample::Index>(), body()).prop_map(|((end, before, target, mut headers), at, body)| {
            let (announced, body) = body;
            if !announced.is_empty() {
                headers.insert(at.index(headers.len() + 1), announced);
            }
            let mut text = format!("{before}POST {target} HTTP/1.1{end}Host: test{end}");
            headers.iter().for_each(|header| text.extend([header, end]));
            text.push_str(end);
            [text.into_bytes(), body].concat()
        })
    }

    /// How long its head is.
    pub(in crate::http) fn head_of(request: &[u8]) -> usize {
        let mut framing = Framing::default();
        framing.cut(request);
        framing.head_bytes()
    }

    /// The header that announces a body, and that body.
    fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
        let sized = prop_oneof!["[Cc]ontent-[Ll]ength: ?", "content-length:[ \t]{1,3}"];
        let chunk = (vec(any::<u8>(), 1..300), prop_oneof![Just(""), Just(";a=b")]).prop_map(|(bytes, extension)| {
            [format!("{:X}{extension}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat()
        });
        let trailers = prop_oneof![Just("0\r\n\r\n"), Just("00;x\r\nTrailer: 5\r\n\r\n")];
        prop_oneof![
            Just((String::new(), Vec::new())),
            (sized, vec(any::<u8>(), 0..600)).prop_map(|(name, body)| (format!("{name}{}", body.len()), body)),
            (vec(chunk, 0..4), trailers).prop_map(|(chunks, end)| (
                "Transfer-Encoding: Chunked".into(),
                [chunks.concat(), end.into()].concat()
            )),
        ]
    }

    proptest! {
        #[test]
        fn each_request_ends_where_the_next_begins_however_they_come(
            requests in vec(request(), 1..8), sizes in vec(1_usize..200, 1..50)
        ) {
            let stream = requests.concat();
            let mut sizes = sizes.into_iter().cycle();
            let mut framing = Framing::default();
            let (mut at, mut begin, mut found) = (0, 0, Vec::new());
            while at < stream.len() {
                let piece = &stream[at..(at + sizes.next().unwrap()).min(stream.len())];
                let cut = framing.cut(piece);
                prop_assert!(cut.ends || cut.bytes == piece.len());
                at += cut.bytes;
                if cut.ends {
                    found.push(&stream[begin..at]);
                    begin = at;
                }
            }
            prop_assert_eq!(found, requests);
        }

        #[test]
        fn whatever_comes_is_followed_to_its_end(bytes in vec(any::<u8>(), 0..2000)) {
            let mut framing = Framing::default();
            let mut at = 0;
            while at < bytes.len() {
                let cut = framing.cut(&bytes[at..]);
                prop_assert!(cut.bytes > 0 && cut.bytes <= bytes.len() - at);
                at += cut.bytes;
            }
        }
    }

    #[actix_web::test]
    async fn the_framework_agrees_on_where_requests_end() {
        use actix_http::h1::{Codec, Message};
        use bytes::BytesMut;
        use proptest::strategy::ValueTree;
        use proptest::test_runner::TestRunner;
        use tokio_util::codec::Decoder;

        let mut runner = TestRunner::deterministic();
        for _ in 0..500 {
            let whole = request().new_tree(&mut runner).unwrap().current();
            let text = String::from_utf8_lossy(&whole);
            let (mut bytes, mut codec) = (BytesMut::from(&whole[..]), Codec::default());
            assert!(matches!(codec.decode(&mut bytes), Ok(Some(Message::Item(_)))), "{text}");
            while let Some(Message::Chunk(Some(_))) = codec.decode(&mut bytes).unwrap() {}
            assert!(bytes.is_empty(), "{text}");
            // Nothing of the body is waited for.
            bytes.extend_from_slice(b"GET / HTTP/1.1\nHost: test\n\n");
            assert!(matches!(codec.decode(&mut bytes), Ok(Some(Message::Item(_)))), "{text}");
        }
    }

    #[test]
    fn what_is_announced_is_counted_down() {
        let mut framing = Framing::default();
        assert!(!framing.is_within_head());
        assert_eq!(framing.cut(b"POST / HTTP/1.1\r\nContent-"), Cut { bytes: 25, ends: false });
        assert!(framing.is_within_head());
        assert_eq!(framing.cut(b"Length: 10\r\n\r\n123"), Cut { bytes: 17, ends: false });
        assert!(!framing.is_within_head());
        assert_eq!((framing.announced(), framing.head_bytes()), (7, 39));
        assert_eq!(framing.cut(b"4567890GET"), Cut { bytes: 7, ends: true });
        assert_eq!(framing.announced(), 0);
    }

    #[test]
    fn behind_another_protocol_there_is_no_next_request() {
        for head in
            ["CONNECT a:1 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nUpgrade: WebSocket\r\nContent-Length: 1\r\n\r\n"]
        {
            let mut framing = Framing::default();
            let all = [head, "GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(framing.cut(all.as_bytes()), Cut { bytes: all.len(), ends: false }, "{head}");
            assert_eq!(framing.announced(), usize::MAX);
        }
    }
}
