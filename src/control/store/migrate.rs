//! Brings the tables up to date: the numbered files of `conf/state`, each once, in order.

use super::sql::{Db, StoreError};

const MIGRATIONS: [&str; 4] = [
    include_str!("../../../conf/state/0001_resources.sql"),
    include_str!("../../../conf/state/0002_audit.sql"),
    include_str!("../../../conf/state/0003_identity.sql"),
    include_str!("../../../conf/state/0004_sign_on.sql"),
];

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS migrations (n BIGINT PRIMARY KEY, applied_at BIGINT NOT NULL)";

/// Runs what has not run yet, all or nothing.
pub(super) fn run(db: &mut Db, now: i64) -> Result<(), StoreError> {
    db.begin_write()?;
    let done = migrate(db, now);
    db.batch(if done.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    done
}

fn migrate(db: &mut Db, now: i64) -> Result<(), StoreError> {
    if let Db::Sqlite(_) = db {
        check(db)?;
    }
    db.batch(TABLE)?;
    let rows = db.query("SELECT n FROM migrations ORDER BY n", &[])?;
    let mut done = 0;
    for row in rows {
        done = row.int(0)?;
    }
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if known < done {
        return Err(StoreError::Corrupt(format!(
            "its tables are those of a newer version (migration {done}, this one knows {known})"
        )));
    }
    for (n, sql) in (1..).zip(MIGRATIONS) {
        if done < n {
            db.batch(sql)?;
            db.execute("INSERT INTO migrations VALUES ($1, $2)", &[n.into(), now.into()])?;
        }
    }
    Ok(())
}

/// A damaged file is noticed at the start, not by the change that meets the damage.
fn check(db: &mut Db) -> Result<(), StoreError> {
    let row = db.first("PRAGMA quick_check(1)", &[])?;
    let verdict = row.as_ref().map_or(Ok("nothing"), |row| row.text(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("its file is damaged: {verdict}")))
}

#[cfg(test)]
mod tests {
    use super::super::sql::Value;
    use super::*;

    #[test]
    fn migrations_run_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Db::open_sqlite(&dir.path().join("state.db")).unwrap();
        run(&mut db, 1).unwrap();
        run(&mut db, 2).unwrap();
        let rows = db.query("SELECT applied_at FROM migrations", &[]).unwrap();
        assert_eq!(rows.len(), MIGRATIONS.len());
        assert!(rows.iter().all(|row| row.int(0).unwrap() == 1));
    }

    #[test]
    fn store_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Db::open_sqlite(&dir.path().join("state.db")).unwrap();
        run(&mut db, 1).unwrap();
        db.execute("INSERT INTO migrations VALUES ($1, $2)", &[Value::Int(99), Value::Int(1)])
            .unwrap();
        assert!(run(&mut db, 2).unwrap_err().to_string().contains("newer version"));
    }
}
