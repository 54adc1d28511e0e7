//! Against a server of a few lines that remembers what it was asked.

use std::io::{BufRead, Read};

use super::*;

/// Answers every request with the number of the requests so far and remembers their first lines.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let remembered = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let remembered = Arc::clone(&remembered);
                std::thread::spawn(move || {
                    let mut requests = BufReader::new(client.try_clone().unwrap());
                    while let Ok(Some(request)) = http::read_request(&mut requests) {
                        let number = {
                            let mut asked = remembered.lock().unwrap();
                            asked.push(request.first_line());
                            asked.len()
                        };
                        let body = format!("answer {number:04}");
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                        client.write_all(answer.as_bytes()).unwrap();
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn proxy(&self, seed: u64) -> StoreProxy {
        StoreProxy::start(&self.address.to_string(), seed)
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// Everything that comes back for one request on a connection of its own.
fn ask(proxy: &StoreProxy) -> String {
    let mut connection = TcpStream::connect(proxy.address).unwrap();
    connection.write_all(b"PUT /bucket/key HTTP/1.1\r\ncontent-length: 4\r\n\r\ndata").unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[expect(clippy::unnecessary_wraps, reason = "what the proxy is given")]
fn only(change: impl FnOnce(&mut FaultRates)) -> Option<FaultRates> {
    let mut rates = FaultRates { refuse: 0.0, ..FaultRates::outage() };
    change(&mut rates);
    Some(rates)
}

#[test]
fn without_faults_requests_and_answers_go_through_unchanged_on_one_connection() {
    let server = Server::start();
    let proxy = server.proxy(1);
    let mut connection = TcpStream::connect(proxy.address).unwrap();
    let mut answers = BufReader::new(connection.try_clone().unwrap());
    for number in 1..=3 {
        connection.write_all(b"PUT /bucket/key HTTP/1.1\r\ncontent-length: 4\r\n\r\ndata").unwrap();
        let answer = http::read_answer(&mut answers, "PUT").unwrap();
        assert_eq!(answer.body, format!("answer {number:04}").as_bytes());
    }
    assert_eq!(*server.asked.lock().unwrap(), ["PUT /bucket/key HTTP/1.1"; 3]);
    assert_eq!(proxy.counts(), (3, 0));
}

#[test]
fn a_refused_request_never_reaches_the_server() {
    let server = Server::start();
    let proxy = server.proxy(1);
    proxy.set_faults(Some(FaultRates::outage()));
    for _ in 0..10 {
        let answer = ask(&proxy);
        assert!(answer.starts_with("HTTP/1.1 500") || answer.starts_with("HTTP/1.1 503"), "{answer}");
    }
    assert_eq!(server.asked(), 0);
    proxy.set_faults(None);
    assert!(ask(&proxy).ends_with("answer 0001"));
    assert_eq!(proxy.counts(), (11, 10));
}

#[test]
fn a_hung_up_request_has_no_answer_and_never_reaches_the_server() {
    let server = Server::start();
    let proxy = server.proxy(1);
    proxy.set_faults(only(|rates| rates.hang_up = 1.0));
    assert_eq!(ask(&proxy), "");
    assert_eq!(server.asked(), 0);
}

#[test]
fn a_lost_answer_and_a_denied_one_are_to_what_the_server_did() {
    let server = Server::start();
    let proxy = server.proxy(1);
    proxy.set_faults(only(|rates| rates.lose_answer = 1.0));
    assert_eq!(ask(&proxy), "");
    assert_eq!(server.asked(), 1);
    proxy.set_faults(only(|rates| rates.deny = 1.0));
    assert!(ask(&proxy).starts_with("HTTP/1.1 500"));
    assert_eq!(server.asked(), 2);
}

#[test]
fn a_cut_answer_ends_in_the_middle_of_its_body() {
    let server = Server::start();
    let proxy = server.proxy(1);
    proxy.set_faults(only(|rates| rates.cut = 1.0));
    let answer = ask(&proxy);
    assert!(answer.contains("content-length: 11\r\n\r\n"), "{answer}");
    assert!(answer.ends_with("answe"), "{answer}");
    assert_eq!(server.asked(), 1);
}

#[test]
fn the_proxy_ends_with_its_value() {
    let server = Server::start();
    let proxy = server.proxy(1);
    assert!(ask(&proxy).ends_with("answer 0001"));
    let address = proxy.address;
    drop(proxy);
    // The port is free again as soon as the accepting thread has gone.
    while TcpListener::bind(address).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn a_server_that_is_gone_shows_as_a_connection_without_an_answer() {
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let proxy = StoreProxy::start(&gone.to_string(), 1);
    let mut connection = TcpStream::connect(proxy.address).unwrap();
    connection.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer).unwrap();
    assert_eq!(answer, "");
}
