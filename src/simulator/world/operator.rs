//! The operator: orders at any time, and looks after what waits for an order once nothing goes wrong any more.

use fastrand::Rng;

use super::{Happening, World, process::Term};
use crate::engine::{Input, output::OrderId, reason::HoldReason};
use crate::model::{
    Text,
    catalog::{Catalog, ExportId, RemovalBrake},
    control::{ControlAction, ControlOutcome},
};
use crate::simulator::{sometimes::Sometimes, workload::Scenario};

/// How often the operator looks.
const LOOKS_MS: u64 = 300_000;

/// What a seed's operator is like. Drawn apart from everything else.
#[derive(Debug)]
pub(super) struct Operator {
    rng: Rng,
    /// There is one.
    pub(super) orders: bool,
    /// Pauses exports.
    pauses: bool,
    given: u64,
    /// The term that is to end for an order.
    ends: Option<u32>,
}

impl Operator {
    /// Some exports have a brake, some adopt who was on their list before, and some wait for their first run. Only where profiles carry their address in each event: what was there before
    /// the run is read again.
    pub(super) fn draw(seed: u64, scenario: &Scenario, catalog: &mut Catalog) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x6f70_6572_6174_6f72);
        let pauses = rng.u32(..4) == 0;
        let waits = !scenario.changes.is_empty() && rng.u32(..3) == 0;
        for export in catalog.exports.iter_mut().filter(|_| waits) {
            export.starts_at_once = rng.bool();
        }
        let brakes = rng.u32(..4) == 0;
        for export in catalog.exports.iter_mut().filter(|_| brakes) {
            export.removal_brake = Some(RemovalBrake { percent: rng.u8(5..50), contacts_min: rng.u64(1..6) });
        }
        // Where lists change, who was adopted on one of them is nobody's to tell.
        let adopts = scenario.changes.is_empty() && rng.u32(..4) == 0;
        for export in catalog.exports.iter_mut().filter(|_| adopts) {
            export.adopts_existing = rng.bool();
        }
        Self { rng, orders: pauses || waits || brakes, pauses, given: 0, ends: None }
    }
}

impl World {
    /// Puts the operator's days on the agenda.
    pub(super) fn plan_orders(&mut self, heal_ms: u64) {
        if !self.operator.orders {
            return;
        }
        let names: Vec<(Text, bool)> =
            self.catalog.exports.iter().map(|export| (export.name.clone(), export.starts_at_once)).collect();
        for (export, started) in names {
            let mut times: Vec<(u64, ControlAction)> = Vec::new();
            if !started && self.operator.rng.u32(..4) != 0 {
                times.push((self.operator.rng.u64(..heal_ms.max(1)), ControlAction::Run));
            }
            if self.catalog.exports.iter().any(|one| one.name == export && one.removal_brake.is_some())
                && self.operator.rng.bool()
            {
                times.push((self.operator.rng.u64(..heal_ms.max(1)), ControlAction::Approve));
            }
            for _ in 0..if self.operator.pauses { self.operator.rng.u32(..4) } else { 0 } {
                let at = self.operator.rng.u64(..heal_ms.max(1));
                times.push((at, ControlAction::Pause));
                times.push((at + self.operator.rng.u64(..1_800_000), ControlAction::Resume));
            }
            for (at, action) in times.into_iter().filter(|(at, _)| *at < heal_ms) {
                self.at(at, Happening::Orders(export.clone(), action));
            }
        }
        self.at(heal_ms + 1_000, Happening::OperatorLooks);
    }

    /// An order comes to whoever owns the shard; where nobody runs a term, the operator hears that.
    pub(super) fn orders(&mut self, name: &Text, action: ControlAction) {
        let owner = self.group.owner.filter(|owner| !self.processes[*owner].suspended && self.processes[*owner].term.is_some());
        let Some(process) = owner else { return };
        let exports = &self.processes[process].catalog.exports;
        let Some(place) = exports.iter().position(|export| export.name == *name) else { return };
        self.operator.given += 1;
        let order = OrderId(self.operator.given);
        self.trace.line(self.now_ms, format_args!("in  order to {} {name}", action.as_str()));
        self.mutate(process, Some(Input::Control { order, export: ExportId::at(place), action }));
    }

    /// What waits for an order gets it.
    pub(super) fn operator_looks(&mut self) {
        for (name, action) in self.waits_for_operator() {
            self.orders(&name, action);
        }
        self.after(LOOKS_MS, Happening::OperatorLooks);
    }

    /// Whether somebody still has to order something, or a term to begin with what was ordered.
    pub(super) fn operator_rests(&self, term: u32) -> bool {
        self.operator.ends != Some(term) && self.waits_for_operator().is_empty()
    }

    /// The exports of the owner that wait for an order, and for which.
    fn waits_for_operator(&self) -> Vec<(Text, ControlAction)> {
        let owner = self.group.owner.filter(|_| self.operator.orders);
        let Some((owner, term)) = owner.and_then(|owner| Some((owner, self.processes[owner].term.as_ref()?))) else {
            return Vec::new();
        };
        let exports = term.engine.snapshot(self.clock(owner)).exports.into_iter();
        let ends = [
            (HoldReason::NotStarted, ControlAction::Run),
            (HoldReason::RemovalBrake, ControlAction::Approve),
            (HoldReason::Paused, ControlAction::Resume),
        ];
        let action = |held: HoldReason| ends.iter().find(|(reason, _)| *reason == held).map(|(_, action)| *action);
        exports.filter_map(|export| Some((export.name, action(export.held?)?))).collect()
    }

    /// An order was answered. A term that has to begin anew for it ends in order.
    pub(super) fn controlled(&mut self, term: &Term, outcome: ControlOutcome) {
        match outcome {
            ControlOutcome::Done => self.reached.mark(Sometimes::OrderTaken),
            ControlOutcome::BeginsAnew => {
                self.reached.mark(Sometimes::FirstRunAskedFor);
                self.operator.ends = Some(term.id);
                self.after(0, Happening::Anew { term: term.id });
            }
            ControlOutcome::Unchanged | ControlOutcome::Stopping => {}
        }
    }
}
