//! What people see, compared with what they should see. After a change that is meant, run the tests with
//! `BLESS=1` and look at the difference.

use std::path::Path;

use crate::model::{Objects, tree};
use crate::render::line::text;
use crate::samples;

fn compare(name: &str, objects: &Objects, wide: bool) {
    let found = text(&super::tree(&tree(objects), samples::now(), wide), false);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/render/tree/{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &found).expect("written");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "{name}:\n{found}");
}

#[test]
fn settled() {
    compare("settled", &samples::settled(), true);
}

#[test]
fn a_canary_that_pauses() {
    compare("canary", &samples::canary(), false);
}

#[test]
fn a_drain_with_a_deadline() {
    compare("draining", &samples::draining(), false);
}

#[test]
fn aborted() {
    compare("aborted", &samples::aborted(), false);
}

#[test]
fn blocked_before_the_first_version() {
    compare("blocked", &samples::blocked(), false);
}

#[test]
fn a_pod_that_cannot_start_and_kinds_that_may_not_be_read() {
    let mut objects = samples::unpullable();
    objects.unseen = vec!["controllerrevisions".into()];
    compare("unpullable", &objects, false);
}

#[test]
fn one_line_for_each_change() {
    let line = |objects: &Objects| super::summary(&tree(objects)).text(false);
    assert_eq!(
        line(&samples::canary()),
        "◐ RollingOut v2-939c6bf2 takes 25 % of new workflows for a while; step 1/2, weight 25 %"
    );
    assert_eq!(
        line(&samples::draining()),
        "✔ Settled v2-939c6bf2 is current, 1 old version drains; v1-b2050a7a drains, 3 open workflows"
    );
}
