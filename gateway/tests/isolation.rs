//! A user sees only their own, however many there are.

use std::collections::HashMap;

use uuid::Uuid;

use crate::support::{Database, Http2, TestGateway, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_users_each_get_their_own_row_of_one_transaction_and_nobody_elses() {
    const USERS: usize = 1000;
    notify_gateway::limits::raise_open_files().unwrap();
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let users: Vec<Uuid> = (0..USERS).map(|_| Uuid::new_v4()).collect();
    let mut streams = Vec::new();
    for user in &users {
        streams.push(gateway.connect(*user).await);
    }
    eventually("all are open", async || gateway.metric("sse_connections_total").await > 999.5)
        .await;

    let list = users.iter().map(|user| format!("'{user}'")).collect::<Vec<_>>().join(",");
    let insert = format!(
        "INSERT INTO notifications (user_id, title, message)
         SELECT id, 'for ' || id, 'm' FROM unnest(ARRAY[{list}]::uuid[]) id"
    );
    database.client.batch_execute(&insert).await.unwrap();
    // A second row each: anything between the two would be somebody else's.
    database.client.batch_execute(&insert.replace("'for '", "'again for '")).await.unwrap();

    for (user, stream) in users.iter().zip(&mut streams) {
        assert_eq!(stream.next_but_heartbeat().await.title(), format!("for {user}"));
        assert_eq!(stream.next_but_heartbeat().await.title(), format!("again for {user}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_streams_of_each_of_two_hundred_users_bring_the_rows_of_theirs_alone() {
    const USERS: usize = 200;
    const STREAMS: usize = 50;
    const TRANSACTIONS: usize = 100;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let database = Database::new().await;
    let flags = ["--max-streams-per-user", "50"];
    let gateway = TestGateway::start(&database.url, &flags).await;
    let users: Vec<Uuid> = (0..USERS).map(|_| Uuid::new_v4()).collect();

    // Two users on each connection: what the one gets comes beside the other's.
    let mut connections = Vec::new();
    let mut streams = Vec::new();
    for pair in users.chunks(2) {
        let mut connection = Http2::connect(gateway.address).await;
        for _ in 0..STREAMS {
            for user in pair {
                streams.push((*user, connection.open(*user).await));
            }
        }
        connections.push(connection);
    }

    let mut expected: HashMap<Uuid, Vec<String>> = HashMap::new();
    for transaction in 0..TRANSACTIONS {
        let rows = (0..random.usize(1..20)).map(|row| {
            let user = users[random.usize(..USERS)];
            let title = format!("{user} {transaction} {row}");
            expected.entry(user).or_default().push(title.clone());
            format!("('{user}', '{title}', '')")
        });
        let rows = rows.collect::<Vec<_>>().join(",");
        let insert = format!("INSERT INTO notifications (user_id, title, message) VALUES {rows}");
        database.client.batch_execute(&insert).await.unwrap();
    }
    // The last of each: whatever comes before it and is not theirs is seen.
    for user in &users {
        expected.entry(*user).or_default().push("last".to_owned());
    }
    let list = users.iter().map(|user| format!("('{user}', 'last', '')"));
    let rows = list.collect::<Vec<_>>().join(",");
    let insert = format!("INSERT INTO notifications (user_id, title, message) VALUES {rows}");
    database.client.batch_execute(&insert).await.unwrap();

    for (user, stream) in &mut streams {
        assert_eq!(stream.next().await.name, "connected");
        // In their transactions' order, where one was rung for and another notified,
        // nobody promises that.
        let mut expected = expected[user].clone();
        let mut titles = stream.titles(expected.len()).await.0;
        expected.sort();
        titles.sort();
        assert_eq!(titles, expected);
    }
}
