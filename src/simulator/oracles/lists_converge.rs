//! [`Promise::ListsConverge`]: at rest, each list holds whom the fold wants there and who was there without us. The list of
//! an export that is no longer configured keeps whom it has, but for who was erased. Staging lists hold nobody.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::Promise;
use crate::model::{
    Text,
    call::ContactStatus,
    catalog::{OnErasure, OnExit, STAGING_PREFIX},
};

use crate::simulator::fold::Wish;

use super::{
    Sight, Verdict, applied_means_completed::AppliedMeansCompleted, nothing_lost::NothingLost, opt_out_respected::OptOutRespected,
};

pub(super) fn at_rest(
    sight: &Sight<'_>,
    opt_out: &OptOutRespected,
    state: &NothingLost,
    applied: &AppliedMeansCompleted,
) -> Verdict {
    for index in 0..sight.catalog.exports.len() {
        for (on_other, (is_now, members)) in [false, true].into_iter().zip(sight.lists(index)) {
            list(sight, opt_out, state, index, on_other, is_now, members.into_iter().collect())?;
        }
    }
    nobody_is_staged(sight)?;
    erased_are_deleted(sight, applied)
}

/// Where an erasure deletes contacts: whoever was on a list for the sake of one profile alone is deleted with it. Where the
/// configuration changes, what it did not name when it came is not asked for.
fn erased_are_deleted(sight: &Sight<'_>, applied: &AppliedMeansCompleted) -> Verdict {
    if !sight.scenario.changes.is_empty() {
        return Ok(());
    }
    for (index, vendor) in sight.vendors.iter().enumerate() {
        if sight.catalog.connections[index].on_erasure != OnErasure::DeleteContact {
            continue;
        }
        let of_account = |export: &usize| usize::from(sight.catalog.exports[*export].connection.0) == index;
        let exports: Vec<usize> = (0..sight.catalog.exports.len()).filter(of_account).collect();
        let mut owners: BTreeMap<&Text, BTreeSet<&Text>> = BTreeMap::new();
        for (profile, wishes) in exports.iter().flat_map(|export| sight.fold.export(*export)) {
            for (address, _) in wishes.iter().filter_map(|wish| wish.wanted.as_ref()) {
                owners.entry(address).or_default().insert(profile);
            }
        }
        for (address, profiles) in owners {
            let mut last = exports.iter().flat_map(|export| {
                let wishes = sight.fold.export(*export);
                profiles.iter().filter_map(|profile| wishes.get(*profile)?.last())
            });
            let erased = profiles.len() == 1 && last.all(|wish| wish.erased && wish.segments.is_empty());
            let departs = sight.scenario.departures.iter().any(|gone| gone.connection == index && gone.address == *address);
            if !erased || departs || !applied.was_imported(index, address) {
                continue;
            }
            let status = vendor.contact(address).map(|(status, _)| status);
            if status.is_some_and(|status| status != ContactStatus::Deleted) {
                let account = &sight.catalog.connections[index].name;
                let detail = format!("{address} was erased, and is {status:?} in {account}, which deletes contacts");
                return Err((Promise::ListsConverge, detail));
            }
        }
    }
    Ok(())
}

/// The lists that removals use are empty again, in each account that a configured export still uses.
fn nobody_is_staged(sight: &Sight<'_>) -> Verdict {
    for (index, vendor) in sight.vendors.iter().enumerate() {
        if !sight.configured.exports.iter().any(|export| usize::from(export.connection.0) == index) {
            continue;
        }
        for (list, name) in vendor.lists().iter().filter(|(_, name)| name.starts_with(STAGING_PREFIX)) {
            if let Some(member) = vendor.list_members(*list).first() {
                return Err((Promise::ListsConverge, format!("{member} is still on \"{name}\"")));
            }
        }
    }
    Ok(())
}

/// One of an export's two lists: the one that it has now, or another, where only a removed export has left somebody.
fn list(
    sight: &Sight<'_>,
    opt_out: &OptOutRespected,
    state: &NothingLost,
    index: usize,
    on_other: bool,
    is_now: bool,
    members: BTreeSet<Text>,
) -> Verdict {
    let export = &sight.catalog.exports[index];
    let which = if on_other { "the other list" } else { "the list" };
    let connection = usize::from(export.connection.0);
    let planted = sight.scenario.contacts[connection].iter();
    let foreign = planted.filter(|contact| contact.export == Some(index) && contact.on_other == on_other);
    let wishes = sight.fold.export(index);
    let last = wishes.values().filter_map(|wishes| wishes.last());
    let segments = sight.segments(index).filter(|_| is_now).unwrap_or_default();
    let mut wanted: BTreeSet<Text> = last.filter_map(|wish| wish.wanted_for(segments)).cloned().collect();
    // What the vendor refuses is dead-lettered.
    wanted.retain(|address| sight.takes(index, address));
    // Who was adopted leaves like anybody who is in no segment.
    let leave = export.adopts_existing && is_now && export.on_exit == OnExit::Remove;
    wanted.extend(foreign.filter(|_| !leave).map(|contact| contact.address.clone()));
    // Of these nobody knows whether the vendor took them: it refused others beside them without a word which.
    let spent = |address: &Text| state.is_search_spent(&export.name, address) && sight.refuses_some(index);
    // One from before who was adopted leaves with the erasure of a profile that had its address.
    let erased = |address: &Text| {
        let had = |wish: &Wish| wish.wanted.as_ref().is_some_and(|(wanted, _)| wanted == address);
        let before = |wishes: &Vec<Wish>| wishes.len() - since_erasure(wishes).len();
        export.adopts_existing && wishes.values().any(|wishes| wishes[..before(wishes)].iter().any(had))
    };
    let excused = |address: &Text| opt_out.has_departed(connection, address) || spent(address) || erased(address);
    let missing = wanted.difference(&members).find(|address| !excused(address));
    // Adds wait where the account's contract allows no more contacts.
    if let Some(missing) = missing.filter(|_| !sight.was_full(index)) {
        return Err((Promise::ListsConverge, format!("{missing} is missing from {which} of {}", export.name)));
    }
    if (is_now && export.on_exit == OnExit::Keep) || sight.segments(index).is_none() {
        let ever = wishes.values().flat_map(|wishes| since_erasure(wishes)).filter_map(|wish| wish.wanted.as_ref());
        wanted.extend(ever.map(|(address, _)| address.clone()));
    }
    if let Some(surplus) = members.difference(&wanted).find(|address| !sight.is_suppressed(index, address)) {
        return Err((Promise::ListsConverge, format!("{surplus} is still on {which} of {}", export.name)));
    }
    Ok(())
}

/// What a profile wanted since it was erased last.
fn since_erasure(wishes: &[Wish]) -> &[Wish] {
    let erased = wishes.iter().rposition(|wish| wish.erased && wish.segments.is_empty());
    erased.map_or(wishes, |erased| &wishes[erased..])
}
