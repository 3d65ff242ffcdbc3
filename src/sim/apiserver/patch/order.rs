//! The order of a merged list: items a patch names follow the patch, the others stay where they were.

use serde_json::Value;

/// Rearranges `list`: the items named by `wanted` in that order, the others in the order of `server`
/// (the list before the merge), woven together so that items known to `server` keep their places where
/// both orders allow it. Items are the same by `key`, or by value without one.
pub(super) fn arrange(list: &mut Vec<Value>, wanted: &[Value], server: &[Value], key: Option<&str>) {
    let place = |order: &[Value], item: &Value| order.iter().position(|other| same(other, item, key));
    let all = std::mem::take(list);
    let (mut named, mut rest): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|item| place(wanted, item).is_some());
    // Stable: repeated items keep their order.
    named.sort_by_key(|item| place(wanted, item));
    rest.sort_by_key(|item| place(server, item));
    let (mut named, mut rest) = (named.into_iter().peekable(), rest.into_iter().peekable());
    loop {
        let next = match (rest.peek(), named.peek()) {
            (Some(left), Some(right)) => match (place(server, left), place(server, right)) {
                (Some(a), Some(b)) if a < b => rest.next(),
                _ => named.next(),
            },
            (Some(_), None) => rest.next(),
            (None, _) => named.next(),
        };
        match next {
            Some(item) => list.push(item),
            None => return,
        }
    }
}

fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn named_items_follow_the_patch_and_others_keep_their_place() {
        for (list, wanted, server, want) in [
            // A new item comes before what the patch does not name.
            (json!(["a", "b", "n"]), json!(["n"]), json!(["a", "b"]), json!(["n", "a", "b"])),
            (json!(["a", "b", "c"]), json!(["c", "a"]), json!(["a", "b", "c"]), json!(["b", "c", "a"])),
            (json!(["a", "b", "c"]), json!([]), json!(["a", "b", "c"]), json!(["a", "b", "c"])),
            (json!(["a", "b"]), json!(["a", "b"]), json!([]), json!(["a", "b"])),
        ] {
            let mut got = list.as_array().unwrap().clone();
            arrange(&mut got, wanted.as_array().unwrap(), server.as_array().unwrap(), None);
            assert_eq!(Value::from(got), want, "{list} by {wanted}");
        }
    }
}
