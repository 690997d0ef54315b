//! Context data and JSON; and that no text breaks anything.

use proptest::prelude::*;

use super::*;

#[test]
fn context_data_is_written_and_read_as_documented() {
    let value = Value::from(json!({"a": "x", "b": [1, true], "c": {}, "d": [], "e": null}));
    let wire = serde_json::to_value(ContextData(value.clone())).expect("writes");
    assert_eq!(
        wire,
        json!({"t": 2, "d": [
            {"k": "a", "v": "x"},
            {"k": "b", "v": {"t": 1, "a": [{"t": 4, "n": 1}, true]}},
            {"k": "c", "v": {"t": 2}},
            {"k": "d", "v": {"t": 1}},
            {"k": "e", "v": null},
        ]})
    );
    assert_eq!(serde_json::from_value::<ContextData>(wire).expect("reads").0, value);

    let read = |json: serde_json::Value| serde_json::from_value::<ContextData>(json).map(|d| d.0);
    assert_eq!(read(json!({"s": "x"})).expect("no t is a string"), Value::from("x"));
    assert_eq!(read(json!({"t": 0})).expect("no s is empty"), Value::from(""));
    assert_eq!(read(json!(2.5)).expect("a bare number"), Value::Number(2.5));
    assert_eq!(read(json!({"t": 3, "b": true})).expect("typed"), Value::Bool(true));
    let sensitive = read(json!({"t": 5, "d": [{"k": "A", "v": "1"}]})).expect("t 5");
    assert_eq!((sensitive.get("A"), sensitive.get("a")), (Value::from("1"), Value::Null));
    for bad in
        [json!([1]), json!({"t": 9}), json!({"t": 2, "d": [{"v": 1}]}), json!({"t": 1, "a": 1})]
    {
        assert!(read(bad.clone()).is_err(), "{bad}");
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        (-1_000_000..1_000_000_i64).prop_map(|n| json!(n)),
        "[a-z'\"é{} ]{0,6}".prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_survives_the_round_trips(json in json_value()) {
        let value = Value::from(&json);
        prop_assert_eq!(value.to_json(), json);
        let wire = serde_json::to_string(&ContextData(value.clone())).expect("writes");
        prop_assert_eq!(&serde_json::from_str::<ContextData>(&wire).expect("reads").0, &value);
        let contexts = Contexts::new().with("x", value.clone());
        let expr = parse("fromJSON(toJSON(x))").expect("parses");
        prop_assert_eq!(evaluate(&expr, &contexts, &NoFunctions), Ok(value));
    }

    #[test]
    fn no_text_panics(text in "[a-z0-9 ().,*'!=<>&|\\[\\]+-]{0,40}") {
        let _ = eval(&text);
    }

    #[test]
    fn printed_numbers_read_back(number in proptest::num::f64::NORMAL) {
        let text = Value::Number(number).to_text();
        let back = Value::from(text.as_str()).to_number();
        prop_assert!((back - number).abs() <= number.abs() * 1e-14, "{number:e} printed {text}");
    }
}
