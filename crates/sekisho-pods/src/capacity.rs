//! Spot or on-demand, in the words of EKS node groups and of Karpenter.
//!
//! <https://docs.aws.amazon.com/eks/latest/userguide/managed-node-groups.html> labels its nodes
//! `eks.amazonaws.com/capacityType`, <https://karpenter.sh/docs/concepts/nodepools/> (and EKS Auto
//! Mode) `karpenter.sh/capacity-type`. A node has one of them, so a term is written for each.

use sekisho_api::{Capacity, CapacityPreference};
use serde_json::{Value, json};

/// The two labels, with their words for spot and for on-demand. Karpenter tries the heaviest
/// preference first, as if it were required, so its own stands first.
const LABELS: &[(&str, &str, &str)] = &[
    ("karpenter.sh/capacity-type", "spot", "on-demand"),
    ("eks.amazonaws.com/capacityType", "SPOT", "ON_DEMAND"),
];

/// The heaviest weight that a preference may have.
const WEIGHT_MAX: usize = 100;

/// The node affinity that `capacity` asks for; nothing for [`CapacityPreference::Any`].
pub(crate) fn node_affinity(capacity: &Capacity) -> Option<Value> {
    let terms: Vec<Value> = LABELS
        .iter()
        .filter_map(|(key, spot, on_demand)| {
            let value = match capacity.prefer {
                CapacityPreference::Any => return None,
                CapacityPreference::Spot => spot,
                CapacityPreference::OnDemand => on_demand,
            };
            let expression = json!({ "key": key, "operator": "In", "values": [value] });
            Some(json!({ "matchExpressions": [expression] }))
        })
        .collect();
    if terms.is_empty() {
        return None;
    }
    if capacity.only {
        let required = json!({ "nodeSelectorTerms": terms });
        return Some(json!({ "requiredDuringSchedulingIgnoredDuringExecution": required }));
    }
    let preferred: Vec<Value> = terms
        .into_iter()
        .enumerate()
        .map(|(index, term)| json!({ "weight": WEIGHT_MAX - index, "preference": term }))
        .collect();
    Some(json!({ "preferredDuringSchedulingIgnoredDuringExecution": preferred }))
}

/// The template's node affinity narrows that of the class: of the required ones, one of either must
/// hold.
pub(crate) fn narrow(class: Option<Value>, template: &Value) -> Value {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let Some(mut class) = class else { return template.clone() };
    let terms = |affinity: &Value| -> Vec<Value> {
        affinity[REQUIRED]["nodeSelectorTerms"].as_array().cloned().unwrap_or_default()
    };
    let (ours, theirs) = (terms(&class), terms(template));
    let both: Vec<Value> = match (ours.is_empty(), theirs.is_empty()) {
        (true, _) => theirs,
        (_, true) => ours,
        _ => ours.iter().flat_map(|a| theirs.iter().map(|b| and(a, b))).collect(),
    };
    if !both.is_empty() {
        class[REQUIRED] = json!({ "nodeSelectorTerms": both });
    }
    let mut preferred = class[PREFERRED].as_array().cloned().unwrap_or_default();
    preferred.extend(template[PREFERRED].as_array().cloned().unwrap_or_default());
    if !preferred.is_empty() {
        class[PREFERRED] = Value::Array(preferred);
    }
    class
}

/// A term holds when all of its expressions do.
fn and(a: &Value, b: &Value) -> Value {
    let mut term = json!({});
    for list in ["matchExpressions", "matchFields"] {
        let both: Vec<Value> = [a, b]
            .iter()
            .flat_map(|term| term[list].as_array().cloned().unwrap_or_default())
            .collect();
        if !both.is_empty() {
            term[list] = Value::Array(both);
        }
    }
    term
}
