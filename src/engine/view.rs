//! The view of everything that an operator may ask for.

use crate::model::{
    catalog::ApplicationId,
    time::{Now, UnixMillis},
};

use super::{
    Engine,
    activity::Stage,
    calls::TokenState,
    snapshot::{ApplicationView, ConnectionView, ExportView, Snapshot},
};

impl Engine {
    /// A view of everything.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let exports: Vec<ExportView> = self.export_ids().map(|id| self.export_view(now, id)).collect();
        Snapshot {
            applications: self
                .applications
                .iter()
                .enumerate()
                .map(|(index, state)| {
                    let id = ApplicationId::at(index);
                    ApplicationView {
                        name: self.catalog.application(id).name.clone(),
                        calls_used: state.quota.used(),
                        calls_left: state.quota.left(),
                        call_price_waiting_seconds: state.price.waiting_seconds,
                        held: state.held.map(|(reason, _)| reason),
                    }
                })
                .collect(),
            connections: self
                .connection_ids()
                .map(|id| {
                    let state = &self.connections[usize::from(id.0)];
                    let open = || self.batches.values().filter(|batch| batch.connection == id);
                    ConnectionView {
                        name: self.catalog.connection(id).name.clone(),
                        activities_open: super::limits::count(
                            open()
                                .filter(|batch| !matches!(batch.stage, Stage::Opening | Stage::Committing(_) | Stage::Ready))
                                .count(),
                        ),
                        suppressed: self.suppressed_of(id),
                        contacts: self.contacts_at_most(id),
                        contacts_max: self.catalog.connection(id).contacts_max,
                        oldest_activity: open().map(|batch| batch.opened_at).min(),
                        token_expires_at: match state.token {
                            TokenState::Valid { expires_at, .. } => expires_at,
                            TokenState::Due { works_until, .. } | TokenState::Reading { works_until } => works_until.flatten(),
                            TokenState::Unread | TokenState::Rejected | TokenState::Bad { .. } => None,
                        },
                        held: state.hold(now.mono).map(|(reason, _)| reason),
                    }
                })
                .collect(),
            watermarks: self.acks.watermarks(),
            reader: self.acks.readers(),
            records_unsettled: self.acks.unsettled(),
            paused: self.paused,
            waiting_partitions: self.waiting_partitions(),
            left_to_read: self.left_to_read(),
            held: self.held,
            calls_begin_in_ms: self.first_call_at.0.checked_sub(now.mono.0).filter(|ms| *ms > 0),
            buffered_bytes: self.journal.waiting_bytes as u64,
            oldest_unapplied: exports.iter().filter_map(|export| export.oldest_unapplied).min(),
            exports,
        }
    }

    fn export_view(&self, now: Now, id: crate::model::catalog::ExportId) -> ExportView {
        let state = self.export(id);
        let export = self.catalog.export(id);
        ExportView {
            name: export.name.clone(),
            removed: state.removed,
            started: state.removed || self.is_started(id),
            paused: state.control.paused,
            profiles: state.members.profiles() as u64,
            members: state.members.on_list(),
            waiting: self.waiting_of(id),
            removals_held_back: state.held_back,
            in_flight: state.rows_open,
            suppressed: state.suppressed.live as u64,
            search_spent: state.search_spent as u64,
            flapping: state.flapping.live as u64,
            profiles_last_hour: self.rows_last_hour(now, id),
            profiles_per_hour_max: export.profiles_per_hour_max,
            oldest_unapplied: self.oldest_unapplied(id),
            decisions: self.decisions(now, id),
            held: self.export_hold(id),
            braked: state.brake.braked,
            contract: self.contract_reached(id),
        }
    }

    /// The oldest change of an export: at the front of a queue, or in its oldest open batch.
    fn oldest_unapplied(&self, id: crate::model::catalog::ExportId) -> Option<UnixMillis> {
        let state = self.export(id);
        let first = |queue: &super::coalescer::Queue| {
            queue.iter().next().and_then(|(slot, _)| state.members.contact(slot).waiting.as_ref().map(|waiting| waiting.since))
        };
        let removals = &state.removals;
        let later = removals.first_later().and_then(|(_, slot)| state.members.contact(slot).waiting.as_ref());
        let later = later.map(|waiting| waiting.since);
        let open = self.batches.values().filter(|batch| batch.export == id && !batch.restored);
        let sent = open.filter_map(|batch| batch.rows.first().map(|row| row.since)).min();
        [first(&state.imports), first(&removals.unfound), first(&removals.found), first(&removals.erased), later, sent]
            .into_iter()
            .flatten()
            .min()
    }
}
