package Pocket::Count;

use strict;
use warnings;

our $VERSION = '0.02';

sub new {
    my ($class, %args) = @_;
    my $self = { limit => $args{limit} || 10, seen => {} };
    return bless $self, $class;
}

sub add {
    my ($self, $line) = @_;
    $self->{seen}{lc $_}++ for $line =~ /(\w+)/g;
    return scalar keys %{ $self->{seen} };
}

1;

__END__

=head1 NAME

Pocket::Count - count words
