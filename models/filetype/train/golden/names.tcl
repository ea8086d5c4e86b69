package require Tcl 8.5
package provide pocket 0.3

namespace eval ::pocket {
    variable items [list]
    namespace export add find
}

proc ::pocket::add {name {note ""}} {
    variable items
    lappend items [list $name $note]
    return [llength $items]
}

proc ::pocket::find {pattern} {
    variable items
    set out [list]
    foreach item $items {
        if {[string match $pattern [lindex $item 0]]} {
            lappend out $item
        }
    }
    return $out
}
