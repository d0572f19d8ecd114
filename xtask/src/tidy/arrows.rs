//! Checks which crate of the workspace uses which: the table here is the design.

use super::Problem;
use super::metadata::Metadata;

/// Every crate there may be, with the crates of the workspace it may use, in tests too.
///
/// docs/architecture.md says why each border is there. A new arrow is a decision about the design:
/// change the table there and here in a commit of its own.
const ARROWS: &[(&str, &[&str])] = &[
    ("fuzz", &[]),
    ("clock", &[]),
    ("engine", &["fuzz"]),
    ("storage", &["engine"]),
    ("broker", &["clock", "engine", "storage"]),
    ("grpc-api", &[]),
    ("wire", &["fuzz"]),
    ("edge", &["clock", "fuzz"]),
    ("gateway", &["clock", "fuzz"]),
    ("server", &["broker", "edge", "wire", "grpc-api", "fuzz"]),
    ("client", &["clock", "grpc-api", "fuzz"]),
    ("orders", &["broker", "client", "edge", "gateway", "fuzz"]),
    ("console", &[]),
    ("sim", &["engine", "storage", "broker", "orders"]),
    ("bench", &["broker", "client", "orders"]),
    (
        "duetime",
        &["broker", "server", "orders", "gateway", "console", "fuzz"],
    ),
    ("xtask", &[]),
];

/// Finds crates that are not in the table and arrows that are not allowed.
pub(crate) fn check(metadata: &Metadata) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in metadata.members() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            problems.push(Problem::new(
                &package.name,
                "this crate is not in the arrow table of xtask/src/tidy/arrows.rs",
            ));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|to| to.path.is_some()) {
            if !allowed.contains(&dependency.name.as_str()) {
                let kind = dependency.kind.as_deref().unwrap_or("normal");
                problems.push(Problem::new(
                    &package.name,
                    format!(
                        "the {kind} dependency on {} is no arrow of the design, which allows {}",
                        dependency.name,
                        if allowed.is_empty() {
                            "none".to_owned()
                        } else {
                            allowed.join(", ")
                        }
                    ),
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::metadata::{Dependency, Package};
    use super::*;

    fn workspace(name: &str, uses: &[(&str, Option<&str>)]) -> Metadata {
        let dependencies = uses
            .iter()
            .map(|(to, kind)| Dependency {
                name: (*to).to_owned(),
                kind: kind.map(str::to_owned),
                path: Some(format!("/w/crates/{to}")),
            })
            .collect();
        let package = Package {
            id: name.to_owned(),
            name: name.to_owned(),
            dependencies,
            ..Package::default()
        };
        Metadata {
            packages: vec![package],
            workspace_members: vec![name.to_owned()],
        }
    }

    #[test]
    fn arrows_of_the_design_pass() {
        assert_eq!(
            check(&workspace(
                "broker",
                &[("engine", None), ("storage", Some("dev"))]
            )),
            []
        );
    }

    #[test]
    fn other_arrows_fail_in_tests_too() {
        for kind in [None, Some("dev"), Some("build")] {
            let problems = check(&workspace("engine", &[("storage", kind)]));
            assert_eq!(problems.len(), 1);
            assert!(
                problems[0].message.contains("dependency on storage"),
                "{problems:?}"
            );
            assert!(problems[0].message.ends_with("allows fuzz"), "{problems:?}");
        }
    }

    #[test]
    fn unknown_crate_fails() {
        let problems = check(&workspace("helpers", &[]));
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn table_has_no_cycle_and_no_stranger() {
        // Each crate may use only crates above it, so no circle is possible.
        for (index, (name, uses)) in ARROWS.iter().enumerate() {
            for used in *uses {
                assert!(
                    ARROWS.iter().take(index).any(|(above, _)| above == used),
                    "{name} uses {used}, which is not above it"
                );
            }
        }
    }
}
