//! What the Temporal UI shows as current details of a rollout.

use std::fmt::Write as _;

use process_operator_crds::spec::{Pause, RolloutStep};

use super::{RolloutInput, works};
use crate::address::path_part;
use crate::plan::details::GAP;
use crate::plan::machine::{Machine, Work};

/// What is being done or waited for, and the steps with the present one marked.
pub(super) fn details(
    input: &RolloutInput,
    run: (&str, &str),
    machine: &Machine,
    work: &Work,
) -> String {
    let progress = machine.progress();
    let mut text = now(input, run, machine, work);
    for told in [&progress.message, &progress.gate] {
        if !told.is_empty() {
            text.push_str("\n\n");
            text.push_str(told);
        }
    }
    let taken = progress.step > 0 || !(input.at_once || input.stable.is_empty());
    if taken && !input.policy.steps.is_empty() {
        text.push_str("\n\n");
        text.push_str(&steps(&input.policy.steps, progress.step));
    }
    text
}

fn now(input: &RolloutInput, run: (&str, &str), machine: &Machine, work: &Work) -> String {
    let build_id = &input.build_id;
    let weight = machine.progress().weight;
    match work {
        Work::Serve => format!(
            "Waiting until the pods of `{}` are ready and poll `{}`. It fails if that is not so at {:.0}.",
            input.deployment_name,
            input.version_queue(),
            input.deadline
        ),
        Work::Gate { gate, attempt, .. } => format!(
            "Gate: workflow `{}` must complete on `{build_id}` ({}).",
            gate.workflow_type,
            link(
                &input.temporal_namespace,
                &works::gate_id(input, run, *attempt)
            )
        ),
        Work::Weigh { percent, .. } => {
            format!("Telling Temporal to send {percent} % of new workflows to `{build_id}`.")
        }
        Work::Pause { due } => {
            format!("**{weight} %** of new workflows go to `{build_id}` until **{due:.0}**.")
        }
        Work::Judge { analysis } => format!(
            "**{weight} %** of new workflows go to `{build_id}` until {} executions of it have closed, of which \
             at most {} % may fail.",
            analysis.min_workflows, analysis.max_failure_percent
        ),
        Work::Promote { .. } => format!("Telling Temporal to send new workflows to `{build_id}`."),
        Work::Recall if machine.gives_current_back() => format!(
            "Taking new workflows away from `{build_id}`, which was being made Current and may be that already."
        ),
        Work::Unwind | Work::Recall => {
            format!("Taking new workflows away from `{build_id}`.")
        }
        Work::Wait => waits_for(machine),
        Work::End => String::new(),
    }
}

/// A workflow by its id, which leads to its page. The UI draws details in a frame of its own at `/render`, so without a
/// slash at its beginning the address fits a UI below a path too.
fn link(namespace: &str, id: &str) -> String {
    format!(
        "[`{id}`](namespaces/{}/workflows/{})",
        path_part(namespace),
        path_part(id)
    )
}

fn waits_for(machine: &Machine) -> String {
    match &machine.progress().hold {
        Some(hold) => format!(
            "**Held**: {}. It goes on with `retry`, `resume`, `promote` or `abort` on the lifecycle.",
            hold.message
        ),
        None if machine.paused() => "**Paused.** It goes on with `resume` on the lifecycle.".into(),
        None => "Waiting for `promote` on the lifecycle.".into(),
    }
}

/// The steps as a table; the last line is what comes after them.
fn steps(steps: &[RolloutStep], present: u32) -> String {
    let mut text = format!("| step{GAP} | new workflows{GAP} | until |\n|---|---|---|\n");
    for (number, step) in (1..).zip(steps) {
        let sign = match number {
            _ if number < present => "✔ ",
            _ if number == present => "▶ ",
            _ => "",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {sign}{number} of {}{GAP} | {} %{GAP} | {} |",
            steps.len(),
            step.weight,
            until(step)
        );
    }
    let _ = writeln!(text, "| then{GAP} | 100 %{GAP} | |");
    text
}

/// What a step waits for, in its order.
fn until(step: &RolloutStep) -> String {
    let mut waits = Vec::new();
    match step.pause {
        Some(Pause {
            duration_seconds: Some(seconds),
        }) => waits.push(duration(seconds)),
        Some(_) => waits.push("somebody promotes it".to_owned()),
        None => {}
    }
    if step.analysis.is_some() {
        waits.push("there is evidence enough".to_owned());
    }
    if let Some(gate) = &step.gate {
        waits.push(format!("gate `{}` has passed", gate.workflow_type));
    }
    if waits.is_empty() {
        waits.push("Temporal has it".to_owned());
    }
    waits.join(", then ")
}

/// In the largest unit that leaves no rest.
fn duration(seconds: i32) -> String {
    let units = [(86400, "d"), (3600, "h"), (60, "min")];
    let unit = units.into_iter().find(|(unit, _)| seconds % unit == 0);
    let (unit, name) = unit.unwrap_or((1, "s"));
    format!("{} {name} have passed", seconds / unit)
}

#[cfg(test)]
mod tests {
    use process_operator_crds::spec::{Gate, RolloutStrategy};

    use super::*;
    use crate::contract::{Order, ProcessKey, RolloutPolicy};
    use crate::plan::machine::Event;

    fn canary() -> RolloutInput {
        let step = |weight, pause| RolloutStep {
            weight,
            pause,
            gate: None,
            analysis: None,
        };
        let pause = |duration_seconds| Some(Pause { duration_seconds });
        RolloutInput {
            build_id: "v2-b7d74504".into(),
            stable: "v1-ba82d12f".into(),
            policy: RolloutPolicy {
                strategy: RolloutStrategy::Canary,
                steps: vec![
                    step(10, pause(Some(3600))),
                    step(25, pause(Some(90))),
                    step(50, pause(None)),
                    step(75, None),
                ],
                ..RolloutPolicy::default()
            },
            ..RolloutInput::default()
        }
    }

    fn shown(input: &RolloutInput, events: impl IntoIterator<Item = Event>) -> String {
        let mut machine = Machine::new(input.policy.clone(), input.at_once, false);
        for event in events {
            machine.apply(event);
        }
        details(
            input,
            (
                "rollout/shop/l2o/uid/v2-b7d74504/7",
                "01a210fc-5a38-7085-9610-927c2db801a5",
            ),
            &machine,
            &machine.work(),
        )
    }

    #[test]
    fn the_present_step_is_marked_and_the_next_ones_are_told() {
        let at = "2026-11-29T10:08:18Z".parse().unwrap();
        let weighted = || Event::Weighted(at);
        let promote = Event::Ordered(Order::Promote, String::new());
        let text = shown(&canary(), [Event::Served, weighted(), promote, weighted()]);
        assert_eq!(
            text,
            "**25 %** of new workflows go to `v2-b7d74504` until **2026-11-29T10:09:48Z**.\n\n\
             | step_ | new workflows_ | until |\n|---|---|---|\n\
             | ✔ 1 of 4_ | 10 %_ | 1 h have passed |\n\
             | ▶ 2 of 4_ | 25 %_ | 90 s have passed |\n\
             | 3 of 4_ | 50 %_ | somebody promotes it |\n\
             | 4 of 4_ | 75 %_ | Temporal has it |\n\
             | then_ | 100 %_ | |\n"
                .replace('_', GAP)
        );
    }

    #[test]
    fn a_gate_is_told_by_a_link_to_its_page_and_then_by_how_it_ended() {
        let mut input = canary();
        input.key = ProcessKey {
            namespace: "shop".into(),
            name: "l2o".into(),
            uid: "uid".into(),
        };
        input.policy.gate = Some(Gate {
            workflow_type: "Verify".into(),
            input: None,
            timeout_seconds: 30,
            attempts: 1,
        });
        input.temporal_namespace = "shop process".into();
        let text = shown(&input, [Event::Served]);
        assert_eq!(
            text.lines().next(),
            Some(
                "Gate: workflow `Verify` must complete on `v2-b7d74504` \
                 ([`gate/shop/l2o/uid/v2-b7d74504/1/7`]\
                 (namespaces/shop%20process/workflows/gate%2Fshop%2Fl2o%2Fuid%2Fv2-b7d74504%2F1%2F7))."
            )
        );
        input.revised = true;
        let text = shown(&input, [Event::Served]);
        assert!(
            text.contains("`gate/shop/l2o/uid/v2-b7d74504/1/7-927c2db801a5`"),
            "{text}"
        );
        let ended = Event::GatePassed("gate workflow Verify completed".into());
        let text = shown(&input, [Event::Served, ended]);
        assert!(text.contains("Verify completed"), "{text}");
    }

    #[test]
    fn steps_that_are_not_taken_are_not_told() {
        let before = shown(&canary(), []);
        assert!(before.contains("1 of 4"), "{before}");
        let at_once = RolloutInput {
            at_once: true,
            ..canary()
        };
        assert!(!shown(&at_once, []).contains("1 of 4"));
    }
}
