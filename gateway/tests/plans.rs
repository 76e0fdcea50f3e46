//! The gateway's own statements, as Postgres runs them: ranges of an index, and
//! no row that is not wanted, however much lies beside it.

use notify_gateway::{cursor::Cursor, cursor::Snapshot, throwaway::Postgres};
use uuid::Uuid;

use crate::support::{Database, EventSource, TestGateway, eventually};

/// A large log is a matter of `ROWS=10000000`.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_reads_only_what_is_wanted_even_for_a_forged_cursor() {
    let rows = std::env::var("ROWS").unwrap_or_else(|_| "20000".to_owned());
    let options = [
        "fsync=off",
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_analyze=on",
        "auto_explain.log_timing=off",
        "auto_explain.log_buffers=on",
    ];
    let server = tokio::task::spawn_blocking(move || Postgres::start(&options).unwrap());
    let server = server.await.unwrap();
    let database = Database::new_on(&server).await;
    let (user, other) = (Uuid::new_v4(), Uuid::new_v4());
    let gateway = TestGateway::start(&database.url, &["--sweep-interval", "100ms"]).await;
    let cursor = gateway.cursor(user).await;
    let epoch = Cursor::parse(&cursor).unwrap().epoch();

    // Many transactions of one row each, one of very many rows, and one that stays open beside
    // them all.
    let open = database.session().await;
    open.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let single = format!(
        "DO $$ BEGIN FOR n IN 1..1500 LOOP
             INSERT INTO notifications (user_id, title, message) VALUES ('{user}', n, 'm');
             COMMIT;
         END LOOP; END $$"
    );
    database.client.batch_execute(&single).await.unwrap();
    let bulk = format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT CASE n % 20 WHEN 0 THEN '{user}'::uuid ELSE '{other}'::uuid END, n, 'm'
         FROM generate_series(1, {rows}) n"
    );
    database.client.batch_execute(&bulk).await.unwrap();
    database.client.batch_execute("ANALYZE notify_gateway.event").await.unwrap();

    // An honest cursor, and one with as many holes as fit into it.
    let snapshot = database.psql("SELECT pg_current_snapshot()").await;
    let mut bounds = snapshot.split(':').map(|number| number.parse::<u64>());
    let [Some(Ok(xmin)), Some(Ok(xmax))] = [bounds.next(), bounds.next()] else {
        panic!("no snapshot: {snapshot}")
    };
    // The open transaction is the first of the holes: nobody has seen it yet.
    let holes: Vec<String> =
        (xmin..xmax - 100).step_by(2).take(800).map(|xact| xact.to_string()).collect();
    assert!(holes.len() > 500, "{snapshot}");
    let forged: Snapshot = format!("{xmin}:{xmax}:{}", holes.join(",")).parse().unwrap();
    let mut text = Vec::new();
    assert!(Cursor::new(epoch, forged.into()).encode(&mut text));
    let log = server.data_directory().with_file_name("log");
    let before = std::fs::metadata(&log).unwrap().len();
    for id in [cursor, String::from_utf8(text).unwrap()] {
        let mut stream: EventSource = gateway.resume(user, &id).await;
        let event = stream.next_but_heartbeat().await;
        assert!(["notification", "resync"].contains(&event.name.as_str()), "{}", event.name);
    }
    let gone = format!(
        "DELETE FROM notifications WHERE user_id = '{user}' AND message = 'm'
                        AND title IN ('1', '2', '3')"
    );
    database.client.batch_execute(&gone).await.unwrap();
    let plans = async || {
        let text = std::fs::read_to_string(&log).unwrap();
        text[usize::try_from(before).unwrap()..].to_owned()
    };
    let is_replay = |plan: &&str| plan.contains("newer.event AS newer");
    let is_sweep = |plan: &&str| {
        plan.contains("SELECT xact_id, seq, user_id") || plan.contains("n.seq >= q.seq")
    };
    let is_prune = |plan: &&str| plan.contains("notify_gateway.event WHERE ctid = ANY");
    let is_erasure = |plan: &&str| plan.contains("USING notify_gateway.event d");
    let of_gateway = |text: &str| -> Vec<String> {
        text.split("Query Text:").skip(1).map(ToOwned::to_owned).collect()
    };
    eventually("all are in the server's log", async || {
        let plans = of_gateway(&plans().await);
        plans.iter().filter(|plan| is_replay(&plan.as_str())).count() >= 2
            && plans.iter().any(|plan| is_sweep(&plan.as_str()))
            && plans.iter().any(|plan| is_prune(&plan.as_str()))
            && plans.iter().any(|plan| is_erasure(&plan.as_str()))
    })
    .await;
    for plan in of_gateway(&plans().await) {
        if is_replay(&plan.as_str()) || is_sweep(&plan.as_str()) {
            // One more than a page takes is read, to know whether there are more.
            let removed = plan
                .lines()
                .filter_map(|line| line.trim().strip_prefix("Rows Removed by Filter: "))
                .filter(|count| count.trim() != "1")
                .count();
            assert_eq!(removed, 0, "rows were read for nothing:\n{plan}");
        }
        let whole = ["Seq Scan on event", "Bitmap Heap Scan on event"];
        assert!(whole.iter().all(|scan| !plan.contains(scan)), "{plan}");
        if is_prune(&plan.as_str()) {
            assert!(plan.contains("event_xact") && plan.contains("Tid Scan"), "{plan}");
        }
        if is_erasure(&plan.as_str()) {
            assert!(plan.contains("event_gone") && plan.contains("event_row"), "{plan}");
        }
        if is_replay(&plan.as_str()) {
            assert!(plan.contains("event_user") && plan.contains("event_row"), "{plan}");
            assert!(!plan.contains("event_xact on"), "{plan}");
            // Entries of the index that are passed over are not in the plan; the blocks are.
            let (ranges, blocks) = index_scan(&plan);
            assert!(blocks < 8 * ranges + 1000, "{blocks} blocks in {ranges} ranges:\n{plan}");
        }
    }
    open.batch_execute("ROLLBACK").await.unwrap();
}

/// How many ranges a plan read of the user's index, and how many blocks for them.
fn index_scan(plan: &str) -> (u64, u64) {
    let (_, scan) = plan.split_once("Index Scan using event_user").unwrap();
    let after = |key: &str| {
        let (_, value) = scan.split_once(key).unwrap();
        let end = value.find(|c: char| !c.is_ascii_digit()).unwrap();
        value[..end].parse::<u64>().unwrap()
    };
    (after("loops="), after("hit="))
}
