//! What to cut into batches now, and why.
//!
//! Why: contacts per call are cheap and calls per day are scarce. A group (one export's adds and updates, or its removals)
//! goes when the waiting of its changes outweighs what a call costs (see `price`), when a batch is full, or when its oldest
//! change has waited as long as fairness allows. Of several that are ready, the one with the most waiting a call goes first.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::model::{
    batch::{CutReason, ImportRows, Operation},
    catalog::{ApplicationId, ExportId},
    hash::text_hash,
    time::{Mono, Now},
    whole,
};

use super::{
    Engine,
    activity::{BatchRow, Cut, Stage},
    activity_time::Gate,
    coalescer::{Queue, Waiting},
    contract::Fit,
    limits::{
        IMPORT_BYTES_MAX, IMPORT_ROWS_MAX, LANE_CALLS, LINGER_MIN_MS, LINGER_POURING_MS, OPEN_BATCHES_MAX, OPEN_ROWS_MAX,
        OVERDUE_HOLDS_MAX_MS, POURING_PER_SECOND, REMOVAL_IDS_MAX, UNSENT_SECONDS,
    },
    membership::ContactSlot,
    polls,
    price::{Demand, PRICE_AGAIN_MS, Price},
    reason::{HoldReason, PauseReason},
    removal::Finding,
};

/// One export's changes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) export: ExportId,
    pub(super) operation: Operation,
}

/// What becomes of a group now.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    /// It goes: why, and how many waiting-seconds it saves for each call.
    Goes(CutReason, f64),
    /// It waits until then, if nothing else comes.
    Waits(Mono),
    /// It would go, but the hour's ceiling leaves room for too few of its changes: looked at again then.
    Full(Mono),
    /// It has nothing to send.
    Empty,
}

/// The part of a group that the hour has room for.
#[derive(Debug, Clone, Copy)]
struct Part {
    rows: usize,
    of: usize,
    /// How long the group's changes have waited.
    oldest_s: f64,
    mean_s: f64,
}

impl Part {
    /// How long its changes have waited, added up, if they came evenly: it takes the oldest. Nothing counts as older than
    /// `usual_s`.
    fn waited_s(self, usual_s: f64) -> f64 {
        let (oldest_s, mean_s, rows) = (self.oldest_s.min(usual_s), self.mean_s.min(usual_s), self.rows as f64);
        rows * (oldest_s - (oldest_s - mean_s) * rows / self.of.max(1) as f64)
    }
}

impl Engine {
    /// Cuts every batch that is ready.
    pub(super) fn plan(&mut self, now: Now) {
        if self.drain.is_some() {
            return;
        }
        self.solve_prices(now);
        self.look_at_pouring(now);
        self.look_at_open(now);
        let mut may_cut: Vec<ExportId> = Vec::new();
        for export in self.export_ids() {
            self.look_for_later(now, export);
            self.brake(now, export);
            if self.may_cut(now, export) {
                may_cut.push(export);
            }
        }
        let mut ready: Vec<(f64, Group, CutReason)> = Vec::new();
        for export in may_cut {
            self.go_on_removing(now, export);
            let held = self.operator_hold(export).is_some();
            let before = ready.len();
            let mut full: Option<Mono> = None;
            for operation in [Operation::Import, Operation::Remove] {
                if held && operation == Operation::Import {
                    continue;
                }
                let group = Group { export, operation };
                match self.judge(now, group) {
                    Verdict::Goes(reason, worth) => ready.push((worth, group, reason)),
                    Verdict::Waits(until) => self.wake_for_price(now, until),
                    Verdict::Full(until) => full = Some(full.map_or(until, |other| other.min(until))),
                    Verdict::Empty => {}
                }
            }
            if let Some(until) = full.filter(|_| ready.len() == before) {
                self.export_mut(export).held = Some((HoldReason::ProfilesPerHour, until));
                self.wake_at(until);
            }
        }
        while let Some(best) = (0..ready.len()).max_by(|a, b| ready[*a].0.total_cmp(&ready[*b].0).then(b.cmp(a))) {
            let (_, group, reason) = ready[best];
            // Others may have taken what was left; what the day cannot pay for to its end is not begun.
            if !self.may_cut(now, group.export) || self.goes(now, group).is_none() {
                ready.swap_remove(best);
                continue;
            }
            if !self.affords(now, group) {
                let quota = &self.applications[usize::from(self.export(group.export).application.0)].quota;
                self.wake_at(quota.more_at(now.mono).max(now.mono.plus_ms(1_000)));
                ready.swap_remove(best);
                continue;
            }
            // Whoever has cut may be ready for more.
            let again = self.cut_group(now, group, reason);
            match self.goes(now, group).filter(|_| again) {
                Some((worth, reason)) => ready[best] = (worth, group, reason),
                None => {
                    ready.swap_remove(best);
                }
            }
        }
    }

    /// Removals that were decided go on as ids are found and staging lists become free.
    fn go_on_removing(&mut self, now: Now, export: ExportId) {
        let many = self.export(export).removals.found.live >= REMOVAL_IDS_MAX;
        match self.export(export).finding {
            // Nothing leaves the list while it is paged through: a page that shifts could hide a member.
            Finding::Idle | Finding::Scanning { .. } => return,
            Finding::LookingUp { .. } => {}
            Finding::Staging { .. } => self.cut_rounds(now, export),
        }
        if many {
            self.cut_removals(now, export);
        }
    }

    /// Solves the price of each key whose time it is.
    fn solve_prices(&mut self, now: Now) {
        for index in 0..self.applications.len() {
            if !self.applications[index].price.is_due(now.mono) {
                continue;
            }
            let application = ApplicationId::at(index);
            let (mut demands, mut groups, mut rounds) = (Vec::new(), Vec::new(), Vec::new());
            let (mut each, mut changes) = (0.0, vec![0.0; self.connections.len()]);
            for export in self.export_ids() {
                if self.export(export).application != application {
                    continue;
                }
                let weight = f64::from(self.catalog.export(export).weight);
                let calls = self.removal_calls_usual(now, export);
                let state = self.export_mut(export);
                let connection = state.connection;
                let [adds, removals] = &mut state.arrivals;
                let demand = Demand { per_second: adds.per_second(now.mono), weight, calls: 1.0 };
                groups.push((export, 0, demand));
                demands.push(demand);
                let per_second = removals.per_second(now.mono);
                changes[usize::from(connection.0)] += demand.per_second + per_second;
                match calls {
                    Some(calls) => {
                        let demand = Demand { per_second, weight, calls };
                        groups.push((export, 1, demand));
                        rounds.push((connection, demand));
                        demands.push(demand);
                    }
                    // A look-up is one call for each change, whenever it is made.
                    None => each += per_second,
                }
            }
            let quota = &self.applications[index].quota;
            // Before the term's first answer nobody knows how much of the day is left; one call alone goes then anyway.
            let budget = quota.left().filter(|_| quota.knows_clock()).map(|left| {
                let left = f64::from(left.saturating_sub(quota.lane(now.mono, LANE_CALLS)));
                let per_second = left * 1_000.0 / (quota.day_left_ms(now.mono).max(1_000) as f64);
                (per_second - each).max(per_second / 2.0) * (1.0 - self.applications[index].overhead.share())
            });
            let price = Price::solve(now.mono, &demands, budget);
            for (account, read_later) in self.connection_ids().zip(polls::read_later(&changes)) {
                if self.catalog.connection(account).application != application {
                    continue;
                }
                let own = rounds.iter().filter(|(connection, _)| *connection == account);
                let per_second = own.map(|(_, demand)| price.flushes_per_second(demand)).sum();
                let account = self.connection_mut(account);
                (account.rounds_per_second, account.read_later) = (per_second, read_later);
            }
            for (export, direction, demand) in &groups {
                self.export_mut(*export).usual_s[*direction] = 1.0 / price.flushes_per_second(demand);
            }
            self.applications[index].price = price;
            for (export, _, demand) in groups.iter().filter(|(_, direction, _)| *direction == 1) {
                let rows = if demand.per_second > 0.0 { demand.per_second / price.flushes_per_second(demand) } else { 0.0 };
                self.export_mut(*export).goes_ahead = self.goes_ahead_after_ms(*export, rows).is_some();
            }
        }
    }

    /// Whether changes pour in, by key.
    fn look_at_pouring(&mut self, now: Now) {
        let mut in_a_second = vec![0_u32; self.applications.len()];
        for export in &self.exports {
            let count = export.arrivals.iter().map(|arrivals| arrivals.in_a_second(now.mono)).sum();
            if let Some(sum) = in_a_second.get_mut(usize::from(export.application.0)) {
                *sum = sum.saturating_add(count);
            }
        }
        for (key, count) in self.applications.iter_mut().zip(in_a_second) {
            key.pours = count >= POURING_PER_SECOND;
        }
    }

    /// Whether the day's calls that nothing else has been promised are enough for a group.
    fn affords(&self, now: Now, group: Group) -> bool {
        let key = &self.applications[usize::from(self.export(group.export).application.0)];
        let calls = match group.operation {
            Operation::Import => self.calls_of(now, group),
            Operation::Remove => self.removal_calls_to_begin(now, group.export),
        };
        let own = u32::try_from(whole(calls)).unwrap_or(u32::MAX).saturating_sub(1);
        let others = own.saturating_add(key.unsent + key.owed + key.promised);
        // Before a term's first answer the lanes are open, and all that its ledger leaves might be begun more than once.
        let counted = key.quota.knows_clock() || key.quota.has_counted(now, others);
        counted && key.quota.has_left(now, key.quota.lane(now.mono, LANE_CALLS).saturating_add(others))
    }

    fn goes(&mut self, now: Now, group: Group) -> Option<(f64, CutReason)> {
        match self.judge(now, group) {
            Verdict::Goes(reason, worth) => Some((worth, reason)),
            Verdict::Waits(until) => {
                self.wake_for_price(now, until);
                None
            }
            Verdict::Full(until) => {
                self.wake_at(until);
                None
            }
            Verdict::Empty => None,
        }
    }

    /// The price may fall before then, if nothing else happens.
    pub(super) fn wake_for_price(&mut self, now: Now, until: Mono) {
        self.wake_at(until.min(now.mono.plus_ms(PRICE_AGAIN_MS)));
    }

    /// The queues that a group's changes wait in.
    fn queues(&self, group: Group) -> SmallVec<[&Queue; 2]> {
        let state = self.export(group.export);
        match group.operation {
            Operation::Import => smallvec![&state.imports],
            Operation::Remove => smallvec![&state.removals.unfound, &state.removals.found],
        }
    }

    /// How long a group's changes have waited, added up, by weight.
    pub(super) fn waited_seconds(&self, now: Now, group: Group) -> f64 {
        let waited_ms: u128 = self.queues(group).iter().map(|queue| queue.waited_ms(now.mono)).sum();
        f64::from(self.catalog.export(group.export).weight) * waited_ms as f64 / 1_000.0
    }

    /// Calls that sending a group now would add.
    pub(super) fn calls_of(&self, now: Now, group: Group) -> f64 {
        match group.operation {
            Operation::Import => 1.0,
            Operation::Remove => self.removal_calls(now, group.export),
        }
    }

    /// Whether a group goes now.
    pub(super) fn judge(&self, now: Now, group: Group) -> Verdict {
        let state = self.export(group.export);
        let queues = self.queues(group);
        let live: usize = queues.iter().map(|queue| queue.live).sum();
        let Some(oldest) = queues.iter().filter_map(|queue| queue.oldest()).min().filter(|_| live > 0) else {
            return Verdict::Empty;
        };
        let full = match group.operation {
            Operation::Import if state.imports.live >= IMPORT_ROWS_MAX => Some(CutReason::Rows),
            Operation::Import if state.imports.bytes >= IMPORT_BYTES_MAX => Some(CutReason::Bytes),
            Operation::Import => None,
            Operation::Remove if !matches!(state.finding, Finding::Idle) => return Verdict::Empty,
            Operation::Remove => {
                let ids = state.removals.unfound.live == 0 && state.removals.found.live >= REMOVAL_IDS_MAX;
                (ids || self.fills_a_round(now, group.export)).then_some(CutReason::Rows)
            }
        };
        let weight = f64::from(self.catalog.export(group.export).weight);
        let (waited_s, calls) = (self.waited_seconds(now, group), self.calls_of(now, group));
        let worth = waited_s / calls;
        let room = self.room_for(now, group);
        if let Some(reason) = full.filter(|_| room >= live) {
            // Of full batches those go first that take one activity after the other.
            return Verdict::Goes(reason, worth * calls);
        }
        // While changes pour in a batch is filled first, and nobody knows yet which groups are worth the most.
        let pours = self.applications[usize::from(state.application.0)].pours || self.paused == Some(PauseReason::ChangesWaiting);
        let linger = oldest.plus_ms(if pours { LINGER_POURING_MS } else { LINGER_MIN_MS });
        if linger > now.mono {
            return Verdict::Waits(linger.min(now.mono.plus_ms(LINGER_MIN_MS)));
        }
        if room < live {
            let oldest_s = now.mono.since_ms(oldest) as f64 / 1_000.0;
            let mean_s = waited_s / (weight * live as f64);
            return self.judge_part(now, group, calls, Part { rows: room, of: live, oldest_s, mean_s });
        }
        let key = &self.applications[usize::from(state.application.0)];
        let price = &key.price;
        // Waiting saves none of the calls that look each address up: it only keeps them for others.
        let each = group.operation == Operation::Remove && self.looks_up_each(now, group.export) && key.affords(now, calls);
        if worth >= price.waiting_seconds || each {
            return Verdict::Goes(CutReason::Price, worth);
        }
        let fair = oldest.plus_ms(whole(price.wait_max_s * 1_000.0));
        if fair <= now.mono {
            return Verdict::Goes(CutReason::Age, worth);
        }
        let missing_ms = (price.waiting_seconds * calls - waited_s) * 1_000.0 / (weight * live as f64);
        Verdict::Waits(fair.min(now.mono.plus_ms(whole(missing_ms.ceil().max(1.0)))))
    }

    /// Whether as much of a group goes as the hour has room for.
    ///
    /// What cannot go anyhow does not make a call worth more; and where the ceiling has kept changes for long, no smaller
    /// part than usual is worth one. So what goes does so at about the times of an hour ago, when its room becomes free, and
    /// with as many calls.
    fn judge_part(&self, now: Now, group: Group, calls: f64, part: Part) -> Verdict {
        let config = self.catalog.export(group.export);
        let state = self.export(group.export);
        let price = &self.applications[usize::from(state.application.0)].price;
        let usual_s = state.usual_s[usize::from(group.operation == Operation::Remove)];
        let worth = f64::from(config.weight) * part.waited_s(usual_s) / calls;
        let max = config.profiles_per_hour_max.unwrap_or(u64::MAX);
        let large = part.rows as u64 >= (IMPORT_ROWS_MAX as u64).min(max.div_ceil(8));
        if part.rows > 0 && (large || worth >= price.waiting_seconds) {
            return Verdict::Goes(if large { CutReason::Rows } else { CutReason::Price }, worth);
        }
        let hour_now = self.hour_now(state.application, now);
        let more_ms = state.hourly.fits_in_ms(hour_now, part.rows as u64 + 1, max).max(1);
        let missing_s = (price.waiting_seconds - worth) * calls / (f64::from(config.weight) * part.rows.max(1) as f64);
        Verdict::Full(now.mono.plus_ms(more_ms.min(whole((missing_s * 1_000.0).ceil().clamp(1_000.0, 1e12)))))
    }

    /// Cuts one batch of a group, or begins what it needs. False when it can do no more now.
    fn cut_group(&mut self, now: Now, group: Group, reason: CutReason) -> bool {
        match group.operation {
            Operation::Import if !self.may_import(now, group.export) => {
                // It goes once the suppressed contacts were read: the call is not given to another.
                let application = self.export(group.export).application;
                self.application_mut(application).promised += 1;
                false
            }
            Operation::Import => self.cut_imports(now, group.export, reason),
            Operation::Remove => {
                self.export_mut(group.export).removes_because = reason;
                self.cut_removals(now, group.export);
                self.begin_finding(now, group.export);
                let promised = self.staging_calls_left(group.export);
                let state = self.export_mut(group.export);
                let (application, more) = (state.application, promised.saturating_sub(state.promised));
                state.promised = promised;
                self.application_mut(application).promised += more;
                false
            }
        }
    }

    /// Lets the removals wait with the others whose contacts the vendor's index must know by now.
    fn look_for_later(&mut self, now: Now, export: ExportId) {
        while let Some((at, slot)) = self.export(export).removals.first_later() {
            if at > now.mono {
                self.wake_at(at);
                break;
            }
            if let Some(mut waiting) = self.take_waiting(export, slot) {
                waiting.not_before = None;
                self.put_waiting(export, slot, waiting);
            }
        }
    }

    /// Whether batches of an export could be sent now; cutting early would only fence contacts for longer.
    pub(super) fn may_cut(&mut self, now: Now, export: ExportId) -> bool {
        let state = self.export(export);
        let waits = self.may_go(export);
        if waits == 0
            || !self.sends(export)
            || state.list.is_none()
            || state.held.is_some()
            || self.routing_hold(export).is_some()
            || !state.existing.is_read()
            || !self.may_leave_list(export)
        {
            return false;
        }
        let (connection, application) = (state.connection, state.application);
        let account = &self.connections[usize::from(connection.0)];
        let key = &self.applications[usize::from(application.0)];
        if let Some(until) = account.full_queue.until(now.mono) {
            self.wake_at(until);
            return false;
        }
        // One batch is enough to try whether it has room.
        let tries_already = account.full_queue.is_tried_by_one(now.mono) && account.begins > 0;
        if key.held.is_some()
            || tries_already
            || account.held.is_some()
            || account.gated.is_some()
            || account.open_batches >= OPEN_BATCHES_MAX
            || account.open_rows >= OPEN_ROWS_MAX
        {
            return false;
        }
        let unsent = key.unsent;
        let pace = self.catalog.application(application).calls_per_second.unwrap_or(u32::MAX);
        if key.ready >= pace.saturating_mul(UNSENT_SECONDS) {
            return false;
        }
        // A batch that cannot be sent today would fence its contacts until tomorrow. What was begun comes before what was not.
        let promised = if state.promised > 0 { 0 } else { key.promised };
        let needed = unsent + key.owed + promised;
        let lane = key.quota.lane(now.mono, LANE_CALLS);
        // One batch may try whether the vendor still says that the day is spent. What it says is told of the key.
        if key.quota.is_denied() && !(key.quota.may_probe() && key.ready == 0) {
            return false;
        }
        if !key.quota.has_left(now, lane.saturating_add(needed)) {
            let until = key.quota.more_at(now.mono).max(now.mono.plus_ms(1_000));
            let spent = needed == 0 || !key.quota.has_left(now, lane);
            self.wake_at(until);
            if spent {
                self.export_mut(export).held = Some((HoldReason::QuotaSpent, until));
            }
            return false;
        }
        let Some(max) = self.catalog.export(export).profiles_per_hour_max else { return true };
        let hour_now = self.hour_now(application, now);
        let wait_ms = self.export(export).hourly.fits_in_ms(hour_now, 1, max);
        if wait_ms > 0 {
            let again = now.mono.plus_ms(wait_ms);
            self.export_mut(export).held = Some((HoldReason::ProfilesPerHour, again));
            self.wake_at(again);
        }
        wait_ms == 0
    }

    /// What is open: batches that are cut and not sent yet, and accounts that had better be read before more is begun.
    fn look_at_open(&mut self, now: Now) {
        for key in &mut self.applications {
            (key.unsent, key.ready, key.owed, key.promised) = (0, 0, 0, 0);
        }
        for account in &mut self.connections {
            (account.gated, account.begins) = (None, 0);
        }
        for export in self.export_ids() {
            let promised = self.staging_calls_left(export);
            let state = self.export_mut(export);
            state.promised = promised;
            let application = state.application;
            let key = self.application_mut(application);
            key.promised = key.promised.saturating_add(promised);
        }
        let mut wake: Option<Mono> = None;
        let mut follows = vec![false; self.connections.len()];
        for batch in self.batches.values() {
            let state = &self.exports[usize::from(batch.export.0)];
            if batch.stages() && !batch.is_early() {
                // The round's removal, and the polls that tell of both its activities.
                let polled = std::mem::replace(&mut follows[usize::from(batch.connection.0)], true);
                self.applications[usize::from(state.application.0)].owed += 1 + 2 * u32::from(!polled);
            }
            match &batch.stage {
                Stage::Opening | Stage::Committing(_) | Stage::Ready if !batch.restored => {
                    let account = &mut self.connections[usize::from(batch.connection.0)];
                    let key = &mut self.applications[usize::from(state.application.0)];
                    account.begins += u32::from(state.held.is_none());
                    key.unsent += 1;
                    // What a held account has cut takes nothing of the pace from the others of its key.
                    let held = account.held.is_some() || account.full_queue.is_in_doubt() || state.held.is_some();
                    key.ready += u32::from(!held);
                }
                Stage::Posting => self.connections[usize::from(batch.connection.0)].begins += 1,
                Stage::Running { since, seen_at, .. } => {
                    let account = &mut self.connections[usize::from(batch.connection.0)];
                    let gate = account.activity_time.gate(now.mono, batch.rows.len() as u64, *since, *seen_at);
                    if gate == Some(Gate::Overdue) {
                        let over = since.plus_ms(OVERDUE_HOLDS_MAX_MS);
                        wake = Some(wake.map_or(over, |at: Mono| at.min(over)));
                    }
                    account.gated = account.gated.or(gate);
                }
                Stage::Opening
                | Stage::Committing(_)
                | Stage::Ready
                | Stage::Looking(_)
                | Stage::Clearing { .. }
                | Stage::Checking(_)
                | Stage::Ended(_) => {}
            }
        }
        if let Some(at) = wake {
            self.wake_at(at);
        }
    }

    /// Cuts one import. False when nothing could be cut, or no more may be.
    fn cut_imports(&mut self, now: Now, export: ExportId, reason: CutReason) -> bool {
        let rows_max = IMPORT_ROWS_MAX.min(self.rows_allowed(now, export));
        let config = self.catalog.export(export);
        let custom_fields = Arc::clone(&config.mapping.custom_names);
        let header = 64 + custom_fields.iter().map(|name| name.len() + 8).sum::<usize>();
        let bytes_max = IMPORT_BYTES_MAX.saturating_sub(header);
        let Some(list) = self.export(export).list else { return false };
        let (mut rows, mut lines, mut bytes, mut adds) = (Vec::new(), Vec::new(), 0, 0);
        while rows.len() < rows_max {
            let Some((slot, sequence)) = self.export_mut(export).imports.pop() else { break };
            if self.deferred(export, slot) {
                continue;
            }
            match self.fit(now, export, (slot, sequence), &mut adds) {
                Fit::Fits => {}
                Fit::Aside => continue,
                Fit::Uncounted => break,
            }
            let state = self.export_mut(export);
            let Some(waiting) = state.members.contact(slot).waiting.as_ref() else { continue };
            if bytes + waiting.bytes > bytes_max {
                // It goes first in the next one.
                self.put_back(export, slot, sequence);
                break;
            }
            let Some(waiting) = self.take_waiting(export, slot) else { continue };
            bytes += waiting.bytes;
            let address = self.export(export).members.contact(slot).address.clone();
            let row_hash = waiting.row.hash();
            let Waiting { since, tokens, parks_at, touched, row, .. } = *waiting;
            rows.push(BatchRow { slot, row_hash, since, tokens, parks_at, touched });
            lines.push((address, row));
        }
        if rows.is_empty() {
            return false;
        }
        let import = ImportRows {
            custom_fields,
            has_first_name: lines.iter().any(|(_, row)| row.first_name.is_some()),
            has_last_name: lines.iter().any(|(_, row)| row.last_name.is_some()),
            rows: Arc::from(lines),
        };
        let cut = Cut {
            export,
            operation: Operation::Import,
            rows,
            import: Some(import),
            ids: Vec::new(),
            round: None,
            deletes: false,
            reason,
        };
        self.open_batch(now, list, cut);
        true
    }

    /// A contact that another export's activity holds waits for that fence, outside its queue.
    pub(super) fn deferred(&mut self, export: ExportId, slot: ContactSlot) -> bool {
        let state = &self.exports[usize::from(export.0)];
        let hash = text_hash(&state.members.contact(slot).address);
        let id = state.connection;
        let connection = usize::from(id.0);
        let by_ghost = !self.ghosts.is_empty() && self.ghost_fence(id, hash).is_some();
        if !by_ghost && !self.connections[connection].fences.contains_key(&hash) {
            return false;
        }
        if let Some(mut waiting) = self.take_waiting(export, slot) {
            waiting.operation = None;
            self.put_waiting(export, slot, waiting);
        }
        let fence = if by_ghost { self.ghost_fence(id, hash) } else { self.connections[connection].fences.get_mut(&hash) };
        if let Some(fence) = fence {
            // It may come here again before the fence falls, if an event put it back into its queue.
            if !fence.contains(&(export, slot)) {
                fence.push((export, slot));
            }
        }
        true
    }

    /// Cuts removals whose contact ids are known, when they are due.
    pub(super) fn cut_removals(&mut self, now: Now, export: ExportId) {
        let Some(list) = self.export(export).list else { return };
        loop {
            let rows_max = REMOVAL_IDS_MAX.min(self.rows_allowed(now, export));
            let account = &self.connections[usize::from(self.export(export).connection.0)];
            // Whatever decided it: in an account that is held they wait in their queue, without a fence.
            let held = account.held.is_some() || account.full_queue.until(now.mono).is_some();
            if held || account.open_batches >= OPEN_BATCHES_MAX || rows_max == 0 {
                return;
            }
            // Who leaves the list, and whose contact is deleted.
            let mut parts = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
            while parts.iter().map(|(rows, _)| rows.len()).sum::<usize>() < rows_max {
                let Some((slot, _)) = self.export_mut(export).removals.found.pop() else { break };
                if self.deferred(export, slot) {
                    continue;
                }
                let deletes = self.deletes(export, slot);
                if !deletes && self.stays_after_all(now, export, slot) {
                    continue;
                }
                let Some(mut waiting) = self.take_waiting(export, slot) else { continue };
                self.keep_row(export, slot, &mut waiting);
                let (rows, ids) = &mut parts[usize::from(deletes)];
                let Some(id) = self.export_mut(export).members.take_id(slot) else { continue };
                let Waiting { since, tokens, parks_at, touched, .. } = *waiting;
                rows.push(BatchRow { slot, row_hash: 0, since, tokens, parks_at, touched });
                ids.push(id);
            }
            if parts.iter().all(|(rows, _)| rows.is_empty()) {
                return;
            }
            for (deletes, (rows, ids)) in [false, true].into_iter().zip(parts) {
                if rows.is_empty() {
                    continue;
                }
                let reason = if rows.len() == REMOVAL_IDS_MAX { CutReason::Rows } else { self.export(export).removes_because };
                let cut = Cut { export, operation: Operation::Remove, rows, import: None, ids, round: None, deletes, reason };
                self.open_batch(now, list, cut);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Part;

    #[test]
    fn a_part_takes_the_oldest_and_counts_none_as_older_than_usual() {
        // Ten changes that came evenly within 10 s: they have waited for 50 s together, the older half for 37.5 s.
        let part = |rows| Part { rows, of: 10, oldest_s: 10.0, mean_s: 5.0 };
        assert_eq!([part(10), part(5), part(0)].map(|part| part.waited_s(60.0)), [50.0, 37.5, 0.0]);
        let late = Part { rows: 5, of: 1_000, oldest_s: 3_600.0, mean_s: 1_800.0 };
        assert!((late.waited_s(20.0) - 100.0).abs() < f64::EPSILON);
    }
}
