//! A reverse proxy in front of a store's HTTP server that misbehaves by a seed.
//!
//! ```text
//!   programs ──► proxy ──► server          refused, hung up:            the server never hears of it
//!            ◄── answer lost, denied, cut ◄──                           the server did it all the same
//! ```
//!
//! Which request is the n-th depends on the scheduler; what happens to the n-th request on the seed alone.
//! Deliberately absent: TLS, and anything that would change a request: S3 signs them.

mod faults;
mod http;

use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use faults::FaultRates;

use self::faults::Fault;
use self::http::Message;

/// The proxy; it ends with this value.
#[derive(Debug)]
pub struct StoreProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: String,
    seed: u64,
    /// `None`: everything goes well.
    rates: Mutex<Option<FaultRates>>,
    requests: AtomicU64,
    faults: AtomicU64,
    is_over: AtomicBool,
}

impl StoreProxy {
    /// Listens on a free port of the loopback. `server` is `host:port`. Nothing goes wrong until it is told to.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn start(server: &str, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound port has an address");
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            seed,
            rates: Mutex::default(),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let shared = Arc::clone(&accepting);
                // A client that goes away ends its own thread only.
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Self { address, shared }
    }

    /// Where programs find the store, as `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From the next request on; `None`: everything goes well.
    pub fn set_faults(&self, rates: Option<FaultRates>) {
        *self.shared.rates.lock().unwrap_or_else(PoisonError::into_inner) = rates;
    }

    /// How many requests came, and how many of them went wrong.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.requests.load(Ordering::Relaxed), self.shared.faults.load(Ordering::Relaxed))
    }
}

impl Drop for StoreProxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// What becomes of the client's connection after an answer.
enum Then {
    GoOn,
    End,
}

impl Shared {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut requests = BufReader::new(client.try_clone()?);
        let mut answers = client;
        let mut upstream: Option<BufReader<TcpStream>> = None;
        while let Some(request) = http::read_request(&mut requests)? {
            match self.answer(&request, &mut answers, &mut upstream) {
                Ok(Then::GoOn) => {}
                // The reading half keeps the connection alive otherwise.
                Ok(Then::End) | Err(_) => return answers.shutdown(Shutdown::Both),
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        request: &Message,
        client: &mut TcpStream,
        upstream: &mut Option<BufReader<TcpStream>>,
    ) -> io::Result<Then> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let decision = rates.map(|rates| rates.decide(self.seed, number));
        if let Some(decision) = decision {
            std::thread::sleep(decision.delay);
        }
        let fault = decision.and_then(|decision| decision.fault);
        self.faults.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        match fault {
            Some(Fault::Refuse { status }) => {
                client.write_all(&http::error_answer(status))?;
                return Ok(Then::GoOn);
            }
            Some(Fault::HangUp) => return Ok(Then::End),
            _ => {}
        }
        let answer = self.ask(request, upstream)?;
        match fault {
            Some(Fault::LoseAnswer) => return Ok(Then::End),
            Some(Fault::Deny) => client.write_all(&http::error_answer(500))?,
            Some(Fault::Cut) => {
                let half = if answer.body.is_empty() {
                    answer.head[..answer.head.len() / 2].to_vec()
                } else {
                    [&answer.head[..], &answer.body[..answer.body.len() / 2]].concat()
                };
                client.write_all(&half)?;
                return Ok(Then::End);
            }
            _ => client.write_all(&answer.bytes())?,
        }
        Ok(if answer.is_last() { Then::End } else { Then::GoOn })
    }

    /// Has the server answer, over a connection that is kept. One that the server has ended meanwhile is replaced;
    /// nothing is asked twice, because an ended connection takes no request.
    fn ask(&self, request: &Message, upstream: &mut Option<BufReader<TcpStream>>) -> io::Result<Message> {
        let method = request.method();
        if let Some(kept) = upstream {
            let is_open = match kept.get_ref().set_nonblocking(true) {
                Ok(()) => {
                    matches!(kept.get_ref().peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
                }
                Err(_) => false,
            };
            kept.get_ref().set_nonblocking(false)?;
            if !is_open {
                *upstream = None;
            }
        }
        let kept = match upstream.take() {
            Some(kept) => kept,
            None => BufReader::new(TcpStream::connect(&self.server)?),
        };
        let mut kept = kept;
        kept.get_mut().set_nodelay(true)?;
        kept.get_mut().write_all(&request.bytes())?;
        let answer = http::read_answer(&mut kept, &method)?;
        if !answer.is_last() {
            *upstream = Some(kept);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
