//! What goes wrong in a round, and when: drawn from the seed.

use std::time::Duration;

use fastrand::Rng;

use crate::proxy::Mode;

/// Forms of the configuration; a round begins with the first.
const FORMS: usize = 4;

/// Something that is done at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL; started again after so long.
    Kill(Whom, Duration),
    /// SIGTERM; started again when it has ended.
    Stop(Whom),
    /// SIGSTOP; SIGCONT after so long.
    Pause(Whom, Duration),
    /// SIGKILL of the broker, which is started again at once.
    KillBroker,
    /// SIGSTOP of the broker; SIGCONT after so long.
    PauseBroker(Duration),
    /// The way to the account.
    Api(Whom, Mode, Duration),
    /// The way to the broker.
    Kafka(Whom, Mode, Duration),
    /// This form of the configuration, on one replica after the other.
    Roll(usize),
}

/// Which replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Who sent last.
    Sender,
    /// That one.
    Number(usize),
    /// All of them.
    All,
}

impl Action {
    /// Its name in a round's line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill(..) => "kill",
            Self::Stop(..) => "stop",
            Self::Pause(_, time) if time.as_millis() > 3_000 => "long pause",
            Self::Pause(..) => "short pause",
            Self::KillBroker => "broker kill",
            Self::PauseBroker(_) => "broker pause",
            Self::Api(_, mode, _) => match mode {
                Mode::Pass => "api",
                Mode::DelayRequests(_) => "api slow there",
                Mode::DelayAnswers(_) => "api slow back",
                Mode::DropAnswers => "api answers lost",
                Mode::Cut => "api cut",
                Mode::Refuse => "api refuses",
                Mode::Stall | Mode::Swallow => "api silent",
            },
            Self::Kafka(_, mode, _) => match mode {
                Mode::Pass => "kafka",
                Mode::DelayRequests(_) | Mode::DelayAnswers(_) => "kafka slow",
                Mode::DropAnswers | Mode::Cut => "kafka cut",
                Mode::Refuse => "kafka refuses",
                Mode::Stall | Mode::Swallow => "kafka silent",
            },
            Self::Roll(_) => "configuration rolled",
        }
    }
}

/// What a round is made of.
#[derive(Debug)]
pub struct Plan {
    /// How many replicas.
    pub replicas: usize,
    /// `state.shards`.
    pub shards: u32,
    /// How many applications, each with an account of its own.
    pub applications: usize,
    /// How many profiles.
    pub profiles: u32,
    /// Events before the first fault, and then in each second.
    pub events_at_first: u32,
    /// See there.
    pub events_per_second: u32,
    /// How long an activity takes, in seconds.
    pub activity_seconds: &'static str,
    /// `timing.park_after_seconds`.
    pub park_after_seconds: u32,
    /// How long faults are done.
    pub lasts: Duration,
    /// What is done when, in order.
    pub actions: Vec<(Duration, Action)>,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let replicas = [1, 2, 2, 3][rng.usize(0..4)];
        let lasts = Duration::from_millis(rng.u64(10_000..15_000));
        // Whole kinds are left out of each round, so that the rest is seen by itself.
        let kinds: Vec<u8> = (0..KINDS).filter(|_| rng.u8(0..100) < 45).collect();
        let kinds = if kinds.is_empty() { vec![rng.u8(0..KINDS)] } else { kinds };
        let mut actions: Vec<(Duration, Action)> = (0..rng.u32(4..9))
            .map(|_| {
                let at = Duration::from_millis(rng.u64(1_500..u64::try_from(lasts.as_millis()).expect("small")));
                let kind = kinds[rng.usize(0..kinds.len())];
                (at, action(kind, replicas, &mut rng))
            })
            .collect();
        // Forward; then back, or further, or not.
        if rng.u8(0..100) < 60 {
            let form = rng.usize(1..FORMS);
            actions.push((lasts / 4, Action::Roll(form)));
            match rng.u8(0..4) {
                0 => {}
                1 => actions.push((lasts * 5 / 8, Action::Roll(form % (FORMS - 1) + 1))),
                _ => actions.push((lasts * 5 / 8, Action::Roll(0))),
            }
        }
        actions.sort_by_key(|(at, _)| *at);
        Self {
            replicas,
            shards: [1, 4][rng.usize(0..2)],
            applications: [1, 5][rng.usize(0..2)],
            profiles: rng.u32(300..1_500),
            events_at_first: rng.u32(50..600),
            events_per_second: rng.u32(10..90),
            activity_seconds: ["0.2", "1", "3"][rng.usize(0..3)],
            park_after_seconds: [2, 8, 120][rng.usize(0..3)],
            lasts,
            actions,
        }
    }
}

impl Plan {
    /// Whether the configuration changes.
    pub fn rolls(&self) -> bool {
        self.actions.iter().any(|(_, action)| matches!(action, Action::Roll(_)))
    }
}

const KINDS: u8 = 14;

fn action(kind: u8, replicas: usize, rng: &mut Rng) -> Action {
    let one = if rng.u8(0..10) < 7 { Whom::Sender } else { Whom::Number(rng.usize(0..replicas)) };
    let way = if rng.u8(0..3) == 0 { Whom::All } else { one };
    let mut ms = |range: std::ops::Range<u64>| Duration::from_millis(rng.u64(range));
    match kind {
        0 | 1 => Action::Kill(one, ms(0..3_000)),
        2 => Action::Stop(one),
        // A session lasts three seconds.
        3 | 4 => Action::Pause(one, ms(3_500..7_000)),
        5 => Action::Pause(one, ms(200..2_000)),
        6 => Action::KillBroker,
        7 => Action::PauseBroker(ms(500..4_000)),
        // Less than the deadline of two seconds, behind which a request must not arrive.
        8 => Action::Api(way, Mode::DelayRequests(ms(200..1_500)), ms(1_000..4_000)),
        9 => Action::Api(way, Mode::DelayAnswers(ms(500..4_000)), ms(1_000..4_000)),
        10 => Action::Api(way, Mode::DropAnswers, ms(500..4_000)),
        11 => {
            let mode = [Mode::Cut, Mode::Refuse, Mode::Swallow][usize::try_from(ms(0..3).as_millis()).expect("small")];
            Action::Api(way, mode, ms(300..4_000))
        }
        12 => {
            let mode = [Mode::Cut, Mode::Refuse][usize::try_from(ms(0..2).as_millis()).expect("small")];
            Action::Kafka(way, mode, ms(100..6_000))
        }
        _ => {
            let mode = [Mode::Stall, Mode::DelayAnswers(ms(100..800))][usize::try_from(ms(0..2).as_millis()).expect("small")];
            Action::Kafka(way, mode, ms(500..7_000))
        }
    }
}
