//! The typed syntax tree of a Dockerfile.
//!
//! Words are as written: quotes, escapes and variables are still in them, since which of them are expanded, and with what,
//! is known to the planner only ([`InstructionKind::expandable`] says which). Words of the JSON form are unescaped.

use std::time::Duration;

use super::diagnostic::Diagnostics;
use super::span::Span;

/// A parsed Dockerfile.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// The `# key=value` comments at the top.
    pub directives: Directives,
    /// Variables of ARG instructions in front of the first FROM, in order.
    pub global_args: Vec<ArgDecl>,
    /// The stages in order; at least one.
    pub stages: Vec<Stage>,
    /// Comment lines directly above instructions, without their `#`.
    pub comments: Vec<CommentBlock>,
    /// What is suspicious but does not stop the build.
    pub warnings: Diagnostics,
}

/// Comment lines between which, and below which, there is no blank line, and the instruction below them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommentBlock {
    /// The lines, trimmed.
    pub lines: Vec<Word>,
    /// Where the instruction begins, as the `start` of its [`Span`].
    pub instruction: usize,
}

/// Parser directives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Frontend image and its command line, from any of the forms [`super::detect_syntax`] knows.
    pub syntax: Option<Word>,
    /// The escape character, backslash unless set.
    pub escape: Escape,
    /// What `# check=` says about build checks.
    pub check: CheckOptions,
}

/// Contents of the `# check=` directive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Names of rules to skip.
    pub skip: Vec<String>,
    /// Skip all rules.
    pub skip_all: bool,
    /// Warnings fail the build.
    pub error: bool,
    /// Experimental rules to run.
    pub experimental: Vec<String>,
    /// Run all experimental rules.
    pub experimental_all: bool,
}

/// The character that escapes others and continues lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\`
    #[default]
    Backslash,
    /// `` ` ``
    Backtick,
}

impl Escape {
    /// The character itself.
    #[must_use]
    pub fn char(self) -> char {
        char::from(self.byte())
    }

    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Backslash => b'\\',
            Self::Backtick => b'`',
        }
    }
}

/// A piece of text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    /// The text; shorter than its source where flags lost their quotes, JSON its escapes, or a line was continued.
    pub text: String,
    /// Its place.
    pub span: Span,
}

/// FROM and the instructions up to the next one.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Name after AS in lower case, as lookups want it.
    pub name: Option<String>,
    /// Name after AS as written.
    pub name_word: Option<Word>,
    /// The keywords FROM and AS as written.
    pub keywords: (Word, Option<Word>),
    /// Base image, earlier stage or `scratch`, not expanded.
    pub base: Word,
    /// Value of `--platform`, not expanded.
    pub platform: Option<Word>,
    /// Instructions of the stage in order.
    pub instructions: Vec<Instruction>,
    /// Comment above FROM that begins with the stage's name, without it.
    pub doc: Option<String>,
    /// Text of the FROM instruction with continuations joined.
    pub text: String,
    /// The FROM instruction.
    pub span: Span,
}

/// One instruction inside a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub kind: InstructionKind,
    /// The keyword as written.
    pub keyword: Word,
    /// All flags as written, for messages about one of them.
    pub flags: Vec<Flag>,
    /// Its text with continuations joined, without the bodies of here-documents; for history and progress.
    pub text: String,
    /// All of it, the bodies of here-documents included.
    pub span: Span,
}

impl Instruction {
    /// The (last) flag of this name, without dashes.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&Flag> {
        self.flags.iter().rev().find(|flag| flag.name == name)
    }
}

/// `--name` or `--name=value`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flag {
    /// Name without dashes.
    pub name: String,
    /// Text after `=`.
    pub value: Option<Word>,
    /// The whole flag.
    pub span: Span,
}

/// The instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// `ADD`
    Add(Add),
    /// `ARG` inside a stage.
    Arg(Vec<ArgDecl>),
    /// `CMD`
    Cmd(CommandForm),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandForm),
    /// `ENV`, at least one pair.
    Env(Vec<KeyValue>),
    /// `EXPOSE`, at least one; sorted by text as BuildKit does before it expands them.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`, at least one pair.
    Label(Vec<KeyValue>),
    /// `MAINTAINER`
    Maintainer(Word),
    /// `ONBUILD`
    Onbuild(Onbuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`, at least one word.
    Shell(Vec<Word>),
    /// `STOPSIGNAL`
    StopSignal(Word),
    /// `USER`
    User(Word),
    /// `VOLUME`, at least one, none of them blank.
    Volume(Vec<Word>),
    /// `WORKDIR`
    Workdir(Word),
}

/// A command line in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandForm {
    /// For the stage's SHELL; empty if the instruction has no argument. Only RUN has here-documents.
    Shell {
        /// The line, with the openings of here-documents in it.
        command: Word,
        /// Here-documents in order of their openings.
        heredocs: Vec<Heredoc>,
    },
    /// Arguments of the JSON form, to be executed as they are; may be empty.
    Exec(Vec<Word>),
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes; the name of the file that COPY makes.
    pub name: String,
    /// Number in front of `<<`, or 0.
    pub fd: u32,
    /// Whether variables in the body are expanded: no part of the delimiter is quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are removed.
    pub chomp: bool,
    /// The lines of the body as they stand in the file; see [`Self::body`].
    pub content: String,
    /// The opening.
    pub span: Span,
    /// The body, without the terminator.
    pub body: Span,
    /// The line that ends it.
    pub terminator: Span,
}

impl Heredoc {
    /// The body, without the leading tabs of each line if `<<-` asks for that.
    #[must_use]
    pub fn body(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// `RUN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub form: CommandForm,
    /// Values of its flags.
    pub flags: RunFlags,
}

/// Flags of RUN, not expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFlags {
    /// `--mount`, each a comma separated list.
    pub mounts: Vec<Word>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<Word>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<Word>,
    /// `--device`
    pub devices: Vec<Word>,
}

/// `COPY`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Paths to copy, in order, without the here-documents.
    pub sources: Vec<Word>,
    /// Here-documents among the sources.
    pub heredocs: Vec<Heredoc>,
    /// Where to.
    pub dest: Word,
    /// `--from`; never has a variable in it.
    pub from: Option<Word>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`
    pub excludes: Vec<Word>,
}

/// `ADD`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// Paths and URLs to add, in order, without the here-documents.
    pub sources: Vec<Word>,
    /// Here-documents among the sources.
    pub heredocs: Vec<Heredoc>,
    /// Where to.
    pub dest: Word,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--keep-git-dir`, if given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`
    pub checksum: Option<Word>,
    /// `--unpack`, if given.
    pub unpack: Option<bool>,
    /// `--exclude`
    pub excludes: Vec<Word>,
}

/// A pair of ENV or LABEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Never empty.
    pub key: Word,
    /// May be empty.
    pub value: Word,
    /// Written as `KEY value`, the old form for one pair.
    pub legacy: bool,
}

/// One variable of ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDecl {
    /// Never empty.
    pub name: Word,
    /// Text after `=`; may be empty.
    pub default: Option<Word>,
    /// Comment above ARG that begins with the name, without it.
    pub doc: Option<String>,
}

/// `HEALTHCHECK`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// Disables the base image's check.
    None,
    /// `CMD`
    Cmd {
        /// The command, never empty.
        form: CommandForm,
        /// Times and retries; none or zero means inherit.
        options: HealthcheckOptions,
    },
}

/// Flags of HEALTHCHECK CMD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthcheckOptions {
    /// `--interval`
    pub interval: Option<Duration>,
    /// `--timeout`
    pub timeout: Option<Duration>,
    /// `--start-period`
    pub start_period: Option<Duration>,
    /// `--start-interval`
    pub start_interval: Option<Duration>,
    /// `--retries`
    pub retries: Option<u32>,
}

/// `ONBUILD`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// The trigger as stored in the image config: joined text, then the bodies of its here-documents with terminators.
    pub expression: String,
    /// The trigger parsed; its [`Instruction::text`] lacks ONBUILD.
    pub trigger: Box<Instruction>,
}

/// How a word is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expansion {
    /// To exactly one word ([`super::process_word`]).
    Word,
    /// To any number of words ([`super::process_words`]).
    Words,
}

impl InstructionKind {
    /// The words BuildKit expands variables in, in source order within each group, with the manner.
    ///
    /// Not among them: text of RUN, CMD, ENTRYPOINT, HEALTHCHECK, SHELL, MAINTAINER and ONBUILD, `--from`, `--exclude`;
    /// `RUN --mount`, whose option *values* but `from` are expanded one by one after splitting; and bodies of
    /// here-documents of COPY and ADD ([`super::process_heredoc`], if [`Heredoc::expand`]).
    #[must_use]
    pub fn expandable(&self) -> Vec<(&Word, Expansion)> {
        let words: Vec<&Word> = match self {
            Self::Add(add) => {
                let flags = [&add.chown, &add.chmod, &add.checksum];
                flags
                    .into_iter()
                    .flatten()
                    .chain(&add.sources)
                    .chain([&add.dest])
                    .collect()
            }
            Self::Copy(copy) => {
                let flags = [&copy.chown, &copy.chmod];
                flags
                    .into_iter()
                    .flatten()
                    .chain(&copy.sources)
                    .chain([&copy.dest])
                    .collect()
            }
            Self::Arg(args) => args
                .iter()
                .flat_map(|arg| [Some(&arg.name), arg.default.as_ref()])
                .flatten()
                .collect(),
            Self::Env(pairs) | Self::Label(pairs) => {
                pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect()
            }
            Self::Expose(ports) => return ports.iter().map(|port| (port, Expansion::Words)).collect(),
            Self::Volume(paths) => paths.iter().collect(),
            Self::StopSignal(word) | Self::User(word) | Self::Workdir(word) => vec![word],
            Self::Run(run) => run.flags.devices.iter().collect(),
            Self::Cmd(_)
            | Self::Entrypoint(_)
            | Self::Healthcheck(_)
            | Self::Maintainer(_)
            | Self::Onbuild(_)
            | Self::Shell(_) => Vec::new(),
        };
        words.into_iter().map(|word| (word, Expansion::Word)).collect()
    }
}
