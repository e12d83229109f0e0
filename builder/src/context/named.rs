//! Named contexts that are files, opened when a step first reads them.

use std::sync::{Arc, Mutex, PoisonError};

use super::digests::DigestCache;
use super::source::ContextFiles;
use crate::build::{Error, NamedContext, Request};
use crate::fetch::Fetcher;

/// One opened context.
#[derive(Debug)]
pub(crate) struct OpenContext {
    pub(crate) files: ContextFiles,
    pub(crate) digests: DigestCache,
}

/// The named contexts of a build, in the order of [`Request::named_contexts`]; one that no step reads is never touched.
#[derive(Debug)]
pub(crate) struct NamedContexts<'a> {
    fetcher: Fetcher<'a>,
    contexts: Vec<Named<'a>>,
}

/// A context with its key, and its files once somebody wanted them.
type Named<'a> = (&'a str, &'a NamedContext, Mutex<Option<Arc<OpenContext>>>);

impl<'a> NamedContexts<'a> {
    pub(crate) fn new(request: &'a Request, fetcher: Fetcher<'a>) -> Self {
        let contexts = request.named_contexts.iter();
        Self {
            fetcher,
            contexts: contexts
                .map(|(key, context)| (key.as_str(), context, Mutex::default()))
                .collect(),
        }
    }

    /// The files of context number `number`. Its own `.dockerignore` applies, and nothing else of it is special.
    pub(crate) fn open(&self, number: usize) -> Result<Arc<OpenContext>, Error> {
        let found = self.contexts.get(number);
        let (key, context, opened) =
            found.ok_or_else(|| Error::internal("contexts in a plan are those of its request"))?;
        // Whoever comes meanwhile waits: it is opened once.
        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*opened {
            return Ok(Arc::clone(open));
        }
        let files = ContextFiles::open_named(context, &self.fetcher).map_err(|error| match error {
            Error::Source(message) => Error::Source(format!("named context {key}: {message}")),
            error => error,
        })?;
        let files = files.ok_or_else(|| Error::internal("an image is no directory"))?;
        let digests = DigestCache::load(self.fetcher.store, &files.root)?;
        let open = Arc::new(OpenContext { files, digests });
        *opened = Some(Arc::clone(&open));
        Ok(open)
    }

    /// Writes what was learnt about their files.
    pub(crate) fn save(&self) -> Result<(), Error> {
        for (_, _, opened) in &self.contexts {
            let opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(open) = &*opened {
                open.digests.save(self.fetcher.store)?;
            }
        }
        Ok(())
    }
}
