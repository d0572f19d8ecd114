//! Brings the schema of a database up to date.

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::hex::hex;
use crate::store::rows::column;
use crate::store::sql::{Connection, query};

/// The versions of the schema, from 1 on. A released one never changes: the database keeps a checksum of each.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/0001_start.sql")];

/// The table of what has been applied. The name is not that of an earlier development version's table.
const TABLE: &str = "create table schema_version (
    version integer primary key not null,
    checksum text not null
) strict";

/// Brings the schema up to date in one transaction; refuses a file whose schema is another one.
pub(super) fn bring_up_to_date(connection: &mut Connection) -> Result<()> {
    apply(connection, &MIGRATIONS)
}

fn apply(connection: &mut Connection, migrations: &[&str]) -> Result<()> {
    connection.run("begin immediate")?;
    let applied = apply_in(connection, migrations);
    if applied.is_err() {
        // The first error is the one that counts.
        let _ = connection.run("rollback");
        return applied;
    }
    connection.run("commit")?;
    Ok(())
}

fn apply_in(connection: &mut Connection, migrations: &[&str]) -> Result<()> {
    let applied = applied(connection)?;
    if applied.len() > migrations.len() {
        let (found, known) = (applied.len(), migrations.len());
        return Err(refused(format!(
            "the schema of the file has version {found}, this version of the program reads up to {known}"
        )));
    }
    for (index, text) in migrations.iter().enumerate() {
        let checksum = hex(&Sha256::digest(text));
        match applied.get(index) {
            Some(found) if *found == checksum => {}
            Some(_) => {
                return Err(refused(
                    "the file was made by a development version of the program with another schema"
                        .to_owned(),
                ));
            }
            None => {
                connection.run_all(text)?;
                let version = i64::try_from(index + 1).unwrap_or(i64::MAX);
                let insert = query("insert into schema_version (version, checksum) values (?, ?)");
                connection.change(&insert.bind(version).bind(checksum))?;
            }
        }
    }
    Ok(())
}

/// The checksums of the versions that the file has, oldest first. Makes the table of them in a new file.
fn applied(connection: &mut Connection) -> Result<Vec<String>> {
    let tables = connection.read(&query(
        "select name from sqlite_schema where type = 'table'",
    ))?;
    let mut names = Vec::with_capacity(tables.len());
    for table in &tables {
        names.push(column::<String>(table, "name")?);
    }
    if names.is_empty() {
        connection.run(TABLE)?;
        return Ok(Vec::new());
    }
    if !names.iter().any(|name| name == "schema_version") {
        return Err(refused(
            "the file has tables but no version of its schema: it is no order database, or one of an \
             early development version"
                .to_owned(),
        ));
    }
    let rows = connection.read(&query(
        "select checksum from schema_version order by version",
    ))?;
    rows.iter().map(|row| column(row, "checksum")).collect()
}

fn refused(detail: String) -> Error {
    Error::Migration { detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::Synchronous;

    const FIRST: &str = "create table tea (id integer primary key) strict;";
    const SECOND: &str =
        "create table cup (id integer primary key) strict; insert into cup values (1);";

    fn open(folder: &tempfile::TempDir) -> Connection {
        Connection::open(&folder.path().join("orders.db"), Synchronous::Normal).unwrap()
    }

    fn detail(result: Result<()>) -> String {
        match result {
            Err(Error::Migration { detail }) => detail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_migration_file_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let files = std::fs::read_dir(folder).unwrap();
        assert_eq!(files.count(), MIGRATIONS.len());
    }

    #[test]
    fn only_what_is_missing_is_applied() {
        let folder = tempfile::tempdir().unwrap();
        apply(&mut open(&folder), &[FIRST]).unwrap();
        let mut connection = open(&folder);
        apply(&mut connection, &[FIRST, SECOND]).unwrap();
        apply(&mut connection, &[FIRST, SECOND]).unwrap();
        let cups = connection.read(&query("select id from cup")).unwrap();
        assert_eq!(cups.len(), 1);
    }

    #[test]
    fn a_file_with_another_schema_is_refused_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        apply(&mut open(&folder), &[FIRST]).unwrap();
        let mut connection = open(&folder);
        let changed = detail(apply(&mut connection, &[SECOND]));
        assert!(changed.contains("another schema"), "{changed}");
        apply(&mut connection, &[FIRST, SECOND]).unwrap();
        let newer = detail(apply(&mut connection, &[FIRST]));
        assert!(newer.contains("has version 2"), "{newer}");
        apply(&mut connection, &[FIRST, SECOND]).unwrap();
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = open(&folder);
        connection.run_all(FIRST).unwrap();
        let foreign = detail(apply(&mut connection, &[FIRST]));
        assert!(foreign.contains("no order database"), "{foreign}");
    }
}
