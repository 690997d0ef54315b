//! Tokens to a tree: precedence climbing, with the chains of `&&` and `||` kept flat.

use super::ast::{Expr, Kind, Node, Operator};
use super::check::Scope;
use super::error::ExprError;
use super::functions::Function;
use super::lexer::{Lexeme, LexemeKind, Lexer};
use super::value::Value;
use super::{MAX_EXPRESSION_CHARS, MAX_EXPRESSION_DEPTH};

/// Parentheses, brackets and `!` inside each other. They make no node, or are counted as nodes
/// only when done, so the parser's own stack needs a bound; no person nests this deep.
const MAX_NESTING: usize = 150;

/// Parses an expression (without `${{` and `}}`), whatever contexts and functions exist.
///
/// # Errors
/// [`ExprError`] for wrong syntax, an unknown function, a wrong number of arguments, or a limit.
pub fn parse(text: &str) -> Result<Expr, ExprError> {
    parse_within(text, None)
}

pub(super) fn parse_within(text: &str, scope: Option<&Scope>) -> Result<Expr, ExprError> {
    if text.chars().count() > MAX_EXPRESSION_CHARS {
        return Err(ExprError::TooLong);
    }
    let mut parser =
        Parser { lexer: Lexer::new(text), source: text, scope, next: None, last: None, nesting: 0 };
    parser.advance()?;
    if parser.next.is_none() {
        return Err(ExprError::Empty);
    }
    let root = parser.binary(0)?;
    if let Some(extra) = parser.next.take() {
        return Err(parser.unexpected(&extra));
    }
    Ok(Expr { source: text.into(), root })
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    source: &'a str,
    scope: Option<&'a Scope>,
    next: Option<Lexeme>,
    /// The last token taken, for "unexpected end".
    last: Option<Lexeme>,
    nesting: usize,
}

/// How tightly a binary operator binds; `None` for what is none.
fn precedence(kind: &LexemeKind) -> Option<u8> {
    use LexemeKind as K;
    match kind {
        K::Or => Some(1),
        K::And => Some(2),
        K::Equal | K::NotEqual => Some(3),
        K::Less | K::LessOrEqual | K::Greater | K::GreaterOrEqual => Some(4),
        _ => None,
    }
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<Option<Lexeme>, ExprError> {
        let taken = std::mem::replace(&mut self.next, self.lexer.next()?);
        if taken.is_some() {
            self.last.clone_from(&taken);
        }
        Ok(taken)
    }

    fn next_is(&self, kind: &LexemeKind) -> bool {
        self.next.as_ref().is_some_and(|lexeme| lexeme.kind == *kind)
    }

    fn expect(&mut self, kind: &LexemeKind) -> Result<(), ExprError> {
        match self.advance()? {
            Some(lexeme) if lexeme.kind == *kind => Ok(()),
            Some(lexeme) => Err(self.unexpected(&lexeme)),
            None => Err(self.unexpected_end()),
        }
    }

    fn unexpected(&self, lexeme: &Lexeme) -> ExprError {
        ExprError::UnexpectedSymbol {
            symbol: lexeme.text.clone(),
            position: lexeme.position,
            expression: self.source.to_owned(),
        }
    }

    fn unexpected_end(&self) -> ExprError {
        let (symbol, position) = self
            .last
            .as_ref()
            .map_or((String::new(), 1), |lexeme| (lexeme.text.clone(), lexeme.position));
        ExprError::UnexpectedEnd { symbol, position, expression: self.source.to_owned() }
    }

    fn node(kind: Kind) -> Result<Node, ExprError> {
        let node = Node::new(kind);
        if node.depth > MAX_EXPRESSION_DEPTH { Err(ExprError::TooDeep) } else { Ok(node) }
    }

    fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ExprError>,
    ) -> Result<T, ExprError> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(ExprError::TooDeep);
        }
        let result = inner(self);
        self.nesting -= 1;
        result
    }

    /// Operators that bind tighter than `floor`, from the left.
    fn binary(&mut self, floor: u8) -> Result<Node, ExprError> {
        let mut left = self.unary()?;
        while let Some(level) = self.next.as_ref().and_then(|l| precedence(&l.kind)) {
            if level <= floor {
                break;
            }
            let Some(operator) = self.advance()? else { break };
            let right = self.binary(level)?;
            left = Self::node(join(&operator.kind, left, right))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, ExprError> {
        if self.next_is(&LexemeKind::Not) {
            self.advance()?;
            let inner = self.nested(Self::unary)?;
            return Self::node(Kind::Not(Box::new(inner)));
        }
        self.postfix()
    }

    fn postfix(&mut self) -> Result<Node, ExprError> {
        let (mut node, indexable) = self.primary()?;
        if !indexable {
            return Ok(node);
        }
        loop {
            if self.next_is(&LexemeKind::Dot) {
                self.advance()?;
                node = match self.advance()? {
                    Some(Lexeme { kind: LexemeKind::Property, text, .. }) => {
                        let index = Self::node(Kind::Literal(Value::String(text)))?;
                        Self::node(Kind::Index { base: Box::new(node), index: Box::new(index) })?
                    }
                    Some(Lexeme { kind: LexemeKind::Star, .. }) => {
                        Self::node(Kind::Wildcard { base: Box::new(node) })?
                    }
                    Some(other) => return Err(self.unexpected(&other)),
                    None => return Err(self.unexpected_end()),
                };
            } else if self.next_is(&LexemeKind::OpenBracket) {
                self.advance()?;
                node = if self.next_is(&LexemeKind::Star) {
                    self.advance()?;
                    Self::node(Kind::Wildcard { base: Box::new(node) })?
                } else {
                    let index = self.nested(|parser| parser.binary(0))?;
                    Self::node(Kind::Index { base: Box::new(node), index: Box::new(index) })?
                };
                self.expect(&LexemeKind::CloseBracket)?;
            } else {
                break;
            }
        }
        Ok(node)
    }

    /// A value, and whether `.` and `[` may follow it: they may not follow a literal.
    fn primary(&mut self) -> Result<(Node, bool), ExprError> {
        let Some(lexeme) = self.advance()? else { return Err(self.unexpected_end()) };
        match lexeme.kind {
            LexemeKind::Literal(value) => Ok((Self::node(Kind::Literal(value))?, false)),
            LexemeKind::OpenParenthesis => {
                let inner = self.nested(|parser| parser.binary(0))?;
                self.expect(&LexemeKind::CloseParenthesis)?;
                Ok((inner, true))
            }
            LexemeKind::Name if self.next_is(&LexemeKind::OpenParenthesis) => {
                Ok((self.call(&lexeme)?, true))
            }
            LexemeKind::Name => {
                if self.scope.is_some_and(|scope| !scope.has_context(&lexeme.text)) {
                    return Err(ExprError::UnrecognizedNamedValue {
                        name: lexeme.text,
                        position: lexeme.position,
                        expression: self.source.to_owned(),
                    });
                }
                Ok((Self::node(Kind::Context { name: lexeme.text })?, true))
            }
            _ => Err(self.unexpected(&lexeme)),
        }
    }

    fn call(&mut self, name: &Lexeme) -> Result<Node, ExprError> {
        let function = Function::named(&name.text)
            .filter(|function| self.scope.is_none_or(|scope| scope.has_function(*function)))
            .ok_or_else(|| ExprError::UnrecognizedFunction {
                name: name.text.clone(),
                position: name.position,
                expression: self.source.to_owned(),
            })?;
        self.expect(&LexemeKind::OpenParenthesis)?;
        let mut arguments = Vec::new();
        if !self.next_is(&LexemeKind::CloseParenthesis) {
            loop {
                arguments.push(self.nested(|parser| parser.binary(0))?);
                if !self.next_is(&LexemeKind::Comma) {
                    break;
                }
                self.advance()?;
            }
        }
        self.expect(&LexemeKind::CloseParenthesis)?;
        self.check_arity(function, name, arguments.len())?;
        Self::node(Kind::Call { function, arguments })
    }

    fn check_arity(
        &self,
        function: Function,
        name: &Lexeme,
        count: usize,
    ) -> Result<(), ExprError> {
        let (least, most) = function.arity();
        let (name, position) = (name.text.clone(), name.position);
        let expression = self.source.to_owned();
        if count < least {
            Err(ExprError::TooFewParameters { name, position, expression })
        } else if count > most {
            Err(ExprError::TooManyParameters { name, position, expression })
        } else if function == Function::Case && count.is_multiple_of(2) {
            Err(ExprError::EvenParameters { name, position, expression })
        } else {
            Ok(())
        }
    }
}

fn join(operator: &LexemeKind, left: Node, right: Node) -> Kind {
    use LexemeKind as K;
    let operator = match operator {
        K::And => return flat(left, right, true),
        K::Or => return flat(left, right, false),
        K::Less => Operator::Less,
        K::LessOrEqual => Operator::LessOrEqual,
        K::Greater => Operator::Greater,
        K::GreaterOrEqual => Operator::GreaterOrEqual,
        K::NotEqual => Operator::NotEqual,
        _ => Operator::Equal,
    };
    Kind::Compare { operator, left: Box::new(left), right: Box::new(right) }
}

/// `(a && b) && c` is one node of three: both mean the same, and long chains stay flat.
fn flat(left: Node, right: Node, and: bool) -> Kind {
    let mut nodes = match (left.kind, and) {
        (Kind::And(nodes), true) | (Kind::Or(nodes), false) => nodes,
        (kind, _) => vec![Node { kind, depth: left.depth }],
    };
    nodes.push(right);
    if and { Kind::And(nodes) } else { Kind::Or(nodes) }
}
