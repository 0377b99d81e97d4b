//! A TCP proxy that can be told to misbehave: between a replica and the simulated account, and between a replica and the
//! broker. It knows nothing of what is said, only who speaks: bytes that follow on an answer begin a request, and of one to
//! the account, whose token it has.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often a proxy looks whether somebody connects.
const ACCEPT: Duration = Duration::from_millis(5);
/// How long a port that was given up may take to be had again.
const REBIND: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(1);
/// Behind its fencing an owner waits at least so long for its first call: from whoever sent before, nothing comes later.
const HANDOVER: Duration = Duration::from_millis(900);

/// A request to the account.
#[derive(Debug, Clone)]
pub struct Request {
    /// When it was handed on.
    pub at: Instant,
    /// Its access token.
    pub token: String,
}

/// With one access token one replica sends at a time: each has its own way to the account, and whoever follows another
/// keeps a distance. A request in the middle of which a replica was stopped may come when it wakes.
///
/// # Panics
/// Two sent.
pub fn one_sends(ways: &[(&str, Vec<Request>, &[Instant])]) {
    let mut sent: BTreeMap<&str, Vec<(Instant, usize)>> = BTreeMap::new();
    for (number, (_, requests, _)) in ways.iter().enumerate() {
        for request in requests {
            sent.entry(&request.token).or_default().push((request.at, number));
        }
    }
    for (token, mut sent) in sent {
        sent.sort();
        for pair in sent.windows(2) {
            let [(before, first), (after, second)] = [pair[0], pair[1]];
            let apart = after.duration_since(before);
            let woke = ways[second].2.iter().any(|at| after.duration_since(*at) < HANDOVER);
            let (of, to) = (ways[first].0, ways[second].0);
            assert!(first == second || woke || apart >= HANDOVER, "{of} and {to} sent with {token} within {apart:?}");
        }
    }
}

/// The access token of a request that begins with these bytes; none where it has none, or is none of HTTP's.
fn bearer(bytes: &[u8]) -> Option<String> {
    if ![&b"GET "[..], b"POST ", b"DELETE "].iter().any(|method| bytes.starts_with(method)) {
        return None;
    }
    let head = String::from_utf8_lossy(bytes);
    let lines = head.split("\r\n").take_while(|line| !line.is_empty());
    let values = lines.filter_map(|line| line.split_once(": ")).filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    values.filter_map(|(_, value)| value.strip_prefix("Bearer ")).next().map(ToOwned::to_owned)
}

/// What a proxy does with what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Hands everything on.
    Pass,
    /// Hands requests on after a while.
    DelayRequests(Duration),
    /// Hands answers on after a while.
    DelayAnswers(Duration),
    /// Hands requests on; instead of the answer, the connection ends.
    DropAnswers,
    /// Ends connections, also new ones, at once.
    Cut,
    /// Nobody listens.
    Refuse,
    /// Takes everything and keeps it; hands it on when the mode ends.
    Stall,
    /// Takes everything and keeps it; ends the connections when the mode ends.
    Swallow,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Counts the changes of the mode.
    changes: u64,
    /// Both ends of each connection.
    connections: BTreeMap<u64, [TcpStream; 2]>,
    last_connection: u64,
    requests: Vec<Request>,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

/// A listening proxy; dropped, it ends with all its connections.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy on a free port, before this address.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::on(listener, upstream)
    }

    /// A proxy that listens here.
    pub fn on(listener: TcpListener, upstream: SocketAddr) -> Self {
        let address = listener.local_addr().expect("an address");
        let state = State {
            mode: Mode::Pass,
            changes: 0,
            connections: BTreeMap::new(),
            last_connection: 0,
            requests: Vec::new(),
            ended: false,
        };
        let shared = Arc::new(Shared { upstream, state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || of_thread.listen(listener, address));
        Self { address, shared }
    }

    /// Changes what it does; connections that the mode does not suffer end now.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.lock();
        // What was swallowed never comes out.
        let swallowed = state.mode == Mode::Swallow && mode != Mode::Swallow;
        if swallowed || matches!(mode, Mode::Cut | Mode::Refuse) {
            state.cut();
        }
        state.mode = mode;
        state.changes += 1;
        self.shared.changed.notify_all();
    }

    /// The requests to the account that were handed on, but for those to the token endpoint.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// When the last of them was handed on.
    pub fn last_request(&self) -> Option<Instant> {
        self.shared.lock().requests.last().map(|request| request.at)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        state.changes += 1;
        state.cut();
        self.shared.changed.notify_all();
    }
}

impl State {
    fn cut(&mut self) {
        for ends in std::mem::take(&mut self.connections).into_values() {
            end(&ends);
        }
    }
}

fn end(ends: &[TcpStream; 2]) {
    for stream in ends {
        // An end that is closed already is as good.
        drop(stream.shutdown(Shutdown::Both));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the mode changes, or for so long.
    fn hold(&self, limit: Duration) {
        let state = self.lock();
        let was = state.changes;
        drop(self.changed.wait_timeout_while(state, limit, |state| state.changes == was));
    }

    fn listen(self: Arc<Self>, listener: TcpListener, address: SocketAddr) {
        listener.set_nonblocking(true).expect("a listener");
        let mut listener = Some(listener);
        loop {
            let (mode, ended) = {
                let state = self.lock();
                (state.mode, state.ended)
            };
            if ended {
                return;
            }
            if mode == Mode::Refuse {
                listener = None;
                self.hold(Duration::from_secs(3600));
                continue;
            }
            let open = listener.get_or_insert_with(|| rebind(address, || self.hold(ACCEPT)));
            match open.accept() {
                Ok((client, _)) if mode == Mode::Cut => drop(client.shutdown(Shutdown::Both)),
                Ok((client, _)) => {
                    client.set_nonblocking(false).expect("a socket");
                    Self::connect(&self, client);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.hold(ACCEPT),
                Err(error) => panic!("the proxy cannot accept: {error}"),
            }
        }
    }

    fn connect(shared: &Arc<Self>, client: TcpStream) {
        // Nobody there: the client's connection ends, as that to a broker that is down would.
        let Ok(server) = TcpStream::connect_timeout(&shared.upstream, CONNECT) else { return };
        let (Ok(client_end), Ok(server_end)) = (client.try_clone(), server.try_clone()) else { return };
        // Requests are small: nothing may wait for more.
        if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
            return;
        }
        let id = {
            let mut state = shared.lock();
            state.last_connection += 1;
            let id = state.last_connection;
            state.connections.insert(id, [client_end, server_end]);
            id
        };
        let (Ok(client_again), Ok(server_again)) = (client.try_clone(), server.try_clone()) else { return };
        let answered = Arc::new(AtomicBool::new(true));
        let (up, down) = (Arc::clone(shared), Arc::clone(shared));
        let turn = Arc::clone(&answered);
        std::thread::spawn(move || up.pump(id, client, server, &Way { requests: true, answered }));
        std::thread::spawn(move || down.pump(id, server_again, client_again, &Way { requests: false, answered: turn }));
    }

    /// Hands bytes on, in one direction, until one end closes.
    fn pump(&self, id: u64, mut from: TcpStream, mut to: TcpStream, way: &Way) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let first = way.turns();
            let token = if way.requests && first { bearer(&buffer[..count]) } else { None };
            let mode = self.lock().mode;
            match mode {
                Mode::DelayRequests(time) if way.requests && first => self.hold(time),
                Mode::DelayAnswers(time) if !way.requests && first => self.hold(time),
                Mode::Stall | Mode::Swallow => {
                    while matches!(self.lock().mode, Mode::Stall | Mode::Swallow) && !self.lock().ended {
                        self.hold(Duration::from_secs(3600));
                    }
                }
                Mode::DropAnswers if !way.requests => break,
                Mode::Pass | Mode::DelayRequests(_) | Mode::DelayAnswers(_) | Mode::DropAnswers | Mode::Cut | Mode::Refuse => {}
            }
            {
                let mut state = self.lock();
                // Cut meanwhile: what was kept never arrives.
                if !state.connections.contains_key(&id) {
                    break;
                }
                if let Some(token) = token {
                    state.requests.push(Request { at: Instant::now(), token });
                }
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        if let Some(ends) = self.lock().connections.remove(&id) {
            end(&ends);
        }
    }
}

/// One direction of a connection.
struct Way {
    requests: bool,
    /// The last bytes of this connection were of an answer.
    answered: Arc<AtomicBool>,
}

impl Way {
    /// Notes who speaks; true when the other end spoke before.
    fn turns(&self) -> bool {
        self.answered.swap(!self.requests, Ordering::AcqRel) == self.requests
    }
}

fn rebind(address: SocketAddr, pause: impl Fn()) -> TcpListener {
    let began = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true).expect("a listener");
                return listener;
            }
            Err(error) => assert!(began.elapsed() < REBIND, "the proxy's port {address} cannot be had again: {error}"),
        }
        pause();
    }
}
