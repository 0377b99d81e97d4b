//! [`Promise::OptOutRespected`]: who had opted out or was deleted before anything happened still is, and is on no list.

use crate::engine::Promise;
use crate::model::call::ContactStatus;

use super::{Sight, Verdict};

pub(super) fn at_rest(sight: &Sight<'_>) -> Verdict {
    for (vendor, planted) in sight.vendors.iter().zip(&sight.scenario.contacts) {
        for contact in planted.iter().filter(|contact| contact.status != ContactStatus::Active) {
            let now = vendor.contact(&contact.address).map(|(status, _)| status);
            if now != Some(contact.status) {
                return Err((Promise::OptOutRespected, format!("{} was {:?} and is {now:?}", contact.address, contact.status)));
            }
        }
    }
    Ok(())
}
