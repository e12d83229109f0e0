//! Which endpoint a path names. Parsed from the right, because `a/blobs/b` and `tags/list` are legal repository names.

use percent_encoding::percent_decode_str;

/// An endpoint with the raw texts of its parts; none of them is validated yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags { name: String },
    /// `/v2/<name>/manifests/<reference>`
    Manifest { name: String, reference: String },
    /// `/v2/<name>/blobs/<digest>`
    Blob { name: String, digest: String },
    /// `/v2/<name>/blobs/uploads/`
    Uploads { name: String },
    /// `/v2/<name>/blobs/uploads/<session>`
    Upload { name: String, session: String },
    /// `/v2/<name>/referrers/<digest>`
    Referrers { name: String, digest: String },
}

/// The route of a URL path (still percent-encoded), `None` if there is no such endpoint.
pub(super) fn parse(path: &str) -> Option<Route> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let rest = path.strip_prefix("/v2")?;
    if rest.is_empty() || rest == "/" {
        return Some(Route::Base);
    }
    let rest = rest.strip_prefix('/')?;
    if rest == "_catalog" {
        return Some(Route::Catalog);
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Some(Route::Tags {
            name: name.to_owned(),
        });
    }
    if let Some(name) = rest
        .strip_suffix("/blobs/uploads/")
        .or_else(|| rest.strip_suffix("/blobs/uploads"))
    {
        return Some(Route::Uploads {
            name: name.to_owned(),
        });
    }
    let (head, last) = rest.rsplit_once('/')?;
    let last = last.to_owned();
    if let Some(name) = head.strip_suffix("/manifests") {
        return Some(Route::Manifest {
            name: name.to_owned(),
            reference: last,
        });
    }
    if let Some(name) = head.strip_suffix("/blobs/uploads") {
        return Some(Route::Upload {
            name: name.to_owned(),
            session: last,
        });
    }
    if let Some(name) = head.strip_suffix("/blobs") {
        return Some(Route::Blob {
            name: name.to_owned(),
            digest: last,
        });
    }
    let name = head.strip_suffix("/referrers")?;
    Some(Route::Referrers {
        name: name.to_owned(),
        digest: last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<Route>) {
        assert_eq!(parse(path), expected, "{path}");
    }

    #[test]
    fn parses_from_the_right() {
        let name = |name: &str| name.to_owned();
        check("/v2", Some(Route::Base));
        check("/v2/", Some(Route::Base));
        check("/v2/_catalog", Some(Route::Catalog));
        check("/v1/", None);
        check("/v2x", None);
        check("/v2/a", None);
        check("/v2/tags/list", None);
        check("/v2/a/tags/list", Some(Route::Tags { name: name("a") }));
        check(
            "/v2/tags/list/tags/list",
            Some(Route::Tags {
                name: name("tags/list"),
            }),
        );
        check("/v2/a/blobs/uploads/", Some(Route::Uploads { name: name("a") }));
        check("/v2/a/blobs/uploads", Some(Route::Uploads { name: name("a") }));
        check(
            "/v2/a/blobs/uploads/x",
            Some(Route::Upload {
                name: name("a"),
                session: name("x"),
            }),
        );
        check(
            "/v2/a/blobs/b/blobs/sha256:0",
            Some(Route::Blob {
                name: name("a/blobs/b"),
                digest: name("sha256:0"),
            }),
        );
        check(
            "/v2/x/manifests/y/manifests/v1",
            Some(Route::Manifest {
                name: name("x/manifests/y"),
                reference: name("v1"),
            }),
        );
        check(
            "/v2/x/manifests/sha256%3Aab",
            Some(Route::Manifest {
                name: name("x"),
                reference: name("sha256:ab"),
            }),
        );
        check(
            "/v2/x/referrers/referrers/sha256:ab",
            Some(Route::Referrers {
                name: name("x/referrers"),
                digest: name("sha256:ab"),
            }),
        );
    }
}
