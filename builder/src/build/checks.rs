//! Build checks during a build.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Error;
use super::request::{Event, Request};
use crate::call::check_options;
use crate::context::ContextFiles;
use crate::dockerfile::{CheckOptions, Diagnostics, Dockerfile, Facts, Rule, lint};
use crate::exec::Events;
use crate::plan::Source;

/// What is needed to check a file while it is built.
pub(super) struct Checks<'a> {
    dockerfile: &'a Dockerfile,
    source: Source<'a>,
    context: Option<&'a ContextFiles>,
    options: Option<CheckOptions>,
}

impl<'a> Checks<'a> {
    /// Errors: the build argument BUILDKIT_DOCKERFILE_CHECK is malformed.
    pub(super) fn new(
        request: &Request,
        context: Option<&'a ContextFiles>,
        dockerfile: &'a Dockerfile,
        source: Source<'a>,
    ) -> Result<Self, Error> {
        Ok(Self {
            dockerfile,
            source,
            context,
            options: check_options(request)?,
        })
    }

    /// What the file and the context tell.
    pub(super) fn before(&self, events: Events<'_>) -> Result<(), Error> {
        let facts = Facts {
            ignore: self.context.and_then(|context| context.filter().ignore),
            options: self.options.as_ref(),
            ..Facts::default()
        };
        self.tell(lint(self.dockerfile, &facts), false, events)
    }

    /// What is known of variables once all base images are: by number in the file, the stages that are built and what
    /// their base images set.
    pub(super) fn variables(
        &self,
        stages: &BTreeSet<usize>,
        base_variables: &BTreeMap<usize, BTreeSet<String>>,
        events: Events<'_>,
    ) -> Result<(), Error> {
        let facts = Facts {
            stages: Some(stages),
            ignore: None,
            base_variables: Some(base_variables),
            options: self.options.as_ref(),
        };
        self.tell(lint(self.dockerfile, &facts), true, events)
    }

    /// Tells warnings, about variables or about all else; `# check=error=true` makes them fail the build.
    fn tell(&self, mut found: Diagnostics, variables: bool, events: Events<'_>) -> Result<(), Error> {
        found
            .0
            .retain(|diagnostic| (diagnostic.rule == Some(Rule::UndefinedVar)) == variables);
        let options = self.options.as_ref().unwrap_or(&self.dockerfile.directives.check);
        if options.error && !found.is_empty() {
            return Err(Error::Dockerfile(
                found.render(self.source.bytes, self.source.name),
            ));
        }
        for warning in found.iter() {
            events(Event::Warning {
                text: self.source.render(warning.clone()),
            });
        }
        Ok(())
    }
}
