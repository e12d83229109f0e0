//! Named contexts that are files, opened when a step first reads them.

use std::sync::{Arc, Mutex, PoisonError};

use cooper_registry::store::Store;

use super::digests::DigestCache;
use super::source::ContextFiles;
use crate::build::{Error, NamedContext, Request};

/// One opened context.
#[derive(Debug)]
pub(crate) struct OpenContext {
    pub(crate) files: ContextFiles,
    pub(crate) digests: DigestCache,
}

/// The named contexts of a build, in the order of [`Request::named_contexts`]; one that no step reads is never touched.
#[derive(Debug)]
pub(crate) struct NamedContexts<'a> {
    store: &'a Store,
    contexts: Vec<Named<'a>>,
}

/// A context with its key, and its files once somebody wanted them.
type Named<'a> = (&'a str, &'a NamedContext, Mutex<Option<Arc<OpenContext>>>);

impl<'a> NamedContexts<'a> {
    pub(crate) fn new(request: &'a Request, store: &'a Store) -> Self {
        let contexts = request.named_contexts.iter();
        Self {
            store,
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
        let files = ContextFiles::open_named(key, context)?;
        let digests = DigestCache::load(self.store, &files.root)?;
        let open = Arc::new(OpenContext { files, digests });
        *opened = Some(Arc::clone(&open));
        Ok(open)
    }

    /// Writes what was learnt about their files.
    pub(crate) fn save(&self) -> Result<(), Error> {
        for (_, _, opened) in &self.contexts {
            let opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(open) = &*opened {
                open.digests.save(self.store)?;
            }
        }
        Ok(())
    }
}
